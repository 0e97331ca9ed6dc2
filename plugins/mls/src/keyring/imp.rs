//! `GstMlsKeyring`: the key contract's signals, each a call of [`Shared`].

use std::sync::{Arc, LazyLock};

use gst::glib;
use gst::glib::subclass::{Signal, SignalType};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_e2ee_common::key_source::{RECEIVER_KEY, SENDER_KEY};

use super::shared::Shared;

#[derive(Default)]
pub struct Keyring {
    pub(super) shared: Arc<Shared>,
}

#[glib::object_subclass]
impl ObjectSubclass for Keyring {
    const NAME: &'static str = "GstMlsKeyring";
    type Type = super::Keyring;
    type ParentType = gst::Object;
}

impl ObjectImpl for Keyring {
    fn constructed(&self) {
        self.parent_constructed();
        self.shared.set_source(&self.obj());
    }

    fn signals() -> &'static [Signal] {
        static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
            let (string, number, bytes) = (
                String::static_type(),
                u64::static_type(),
                glib::Bytes::static_type(),
            );
            vec![
                action("sender-key", &[string], |shared, _| {
                    shared.sender_key().map(sender_structure)
                }),
                action("receiver-key", &[number], |shared, args| {
                    shared.receiver_key(kid_or_epoch(args)?).map(receiver_structure)
                }),
                Signal::builder("frame-opened")
                    .param_types([number])
                    .action()
                    .run_last()
                    .class_handler(|args| {
                        if let (Some(shared), Some(kid)) = (shared(args), kid_or_epoch(args)) {
                            shared.frame_opened(kid);
                        }
                        None
                    })
                    .build(),
                action("room-state", &[number], |shared, args| {
                    let state = shared.room_state(kid_or_epoch(args)?)?;
                    Some(state.to_structure())
                }),
                action("sign", &[string, bytes], |shared, args| {
                    let purpose = args.get(1)?.get::<String>().ok()?;
                    let data = args.get(2)?.get::<glib::Bytes>().ok()?;
                    shared.sign(&purpose, &data).map(glib::Bytes::from_owned)
                }),
                Signal::builder("keys-changed").param_types([number]).build(),
                Signal::builder("room-changed").param_types([number]).build(),
            ]
        });
        &SIGNALS
    }
}

impl GstObjectImpl for Keyring {}

/// An action that answers with a value or NULL.
fn action<T>(
    name: &str,
    params: &[glib::Type],
    answer: impl Fn(&Shared, &[glib::Value]) -> Option<T> + Send + Sync + 'static,
) -> Signal
where
    T: StaticType,
    Option<T>: ToValue,
{
    Signal::builder(name)
        .param_types(params.iter().map(|&param| SignalType::from(param)))
        .return_type::<T>()
        .action()
        .run_last()
        .class_handler(move |args| {
            let answer = shared(args).and_then(|shared| answer(&shared, args));
            Some(answer.to_value())
        })
        .build()
}

fn shared(args: &[glib::Value]) -> Option<Arc<Shared>> {
    let keyring = args.first()?.get::<super::Keyring>().ok()?;
    Some(keyring.shared())
}

fn kid_or_epoch(args: &[glib::Value]) -> Option<u64> {
    args.get(1)?.get().ok()
}

// Nobody formats these: printing one prints the key. The bytes are erased with the last reference to them.

fn sender_structure(key: crate::schedule::SealingKey) -> gst::Structure {
    gst::Structure::builder(SENDER_KEY)
        .field("kid", key.kid)
        .field("cipher-suite", u32::from(key.suite))
        .field("base-key", glib::Bytes::from_owned(key.base_key))
        .field("counter", key.counter)
        .field("counter-end", key.counter_end)
        .field("epoch", key.epoch)
        .build()
}

fn receiver_structure(key: crate::schedule::OpeningKey) -> gst::Structure {
    gst::Structure::builder(RECEIVER_KEY)
        .field("cipher-suite", u32::from(key.suite))
        .field("base-key", glib::Bytes::from_owned(key.base_key))
        .field("epoch", key.epoch)
        .field("leaf", key.leaf)
        .field("sender", key.sender)
        .build()
}
