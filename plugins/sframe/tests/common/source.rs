//! A key source for tests: keys appear, change and go as the test says, and every question is noted.

use gst::glib;
use gst::glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use gst_e2ee_common::room_state::{LATEST, RoomState};

/// Signs data for a purpose.
pub type Signer = Box<dyn Fn(&str, &[u8]) -> Vec<u8> + Send>;

#[derive(Clone)]
pub struct Key {
    pub base_key: Vec<u8>,
    pub epoch: u64,
    pub leaf: u32,
    pub sender: String,
}

mod imp {
    use super::*;

    #[derive(Default)]
    pub struct TestSource {
        pub sender: Mutex<Option<(u64, Key, std::ops::Range<u64>)>>,
        pub receivers: Mutex<HashMap<u64, Key>>,
        pub opened: Mutex<Vec<u64>>,
        pub asked: Mutex<Vec<u64>>,
        pub senders_asked: Mutex<Vec<String>>,
        pub rooms: Mutex<Vec<RoomState>>,
        pub signer: Mutex<Option<Signer>>,
    }

    #[glib::object_subclass]
    impl ObjectSubclass for TestSource {
        const NAME: &'static str = "TestKeySource";
        type Type = super::TestSource;
        type ParentType = gst::Object;
    }

    impl ObjectImpl for TestSource {
        fn signals() -> &'static [Signal] {
            static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
                let this = |args: &[glib::Value]| args[0].get::<super::TestSource>().unwrap();
                vec![
                    Signal::builder("sender-key")
                        .param_types([String::static_type()])
                        .return_type::<gst::Structure>()
                        .action()
                        .run_last()
                        .class_handler(move |args| {
                            let this = this(args);
                            let imp = this.imp();
                            imp.senders_asked.lock().unwrap().push(args[1].get().unwrap());
                            let answer = imp.sender.lock().unwrap().clone();
                            let answer = answer.map(|(kid, key, counters)| {
                                gst::Structure::builder("sframe-sender-key")
                                    .field("kid", kid)
                                    .field("cipher-suite", 4u32)
                                    .field("base-key", glib::Bytes::from_owned(key.base_key))
                                    .field("counter", counters.start)
                                    .field("counter-end", counters.end)
                                    .field("epoch", key.epoch)
                                    .build()
                            });
                            Some(answer.to_value())
                        })
                        .build(),
                    Signal::builder("receiver-key")
                        .param_types([u64::static_type()])
                        .return_type::<gst::Structure>()
                        .action()
                        .run_last()
                        .class_handler(move |args| {
                            let this = this(args);
                            let kid = args[1].get::<u64>().unwrap();
                            this.imp().asked.lock().unwrap().push(kid);
                            let answer = this.imp().receivers.lock().unwrap().get(&kid).cloned();
                            let answer = answer.map(|key| {
                                gst::Structure::builder("sframe-receiver-key")
                                    .field("cipher-suite", 4u32)
                                    .field("base-key", glib::Bytes::from_owned(key.base_key))
                                    .field("epoch", key.epoch)
                                    .field("leaf", key.leaf)
                                    .field("sender", key.sender)
                                    .build()
                            });
                            Some(answer.to_value())
                        })
                        .build(),
                    Signal::builder("frame-opened")
                        .param_types([u64::static_type()])
                        .action()
                        .run_last()
                        .class_handler(move |args| {
                            this(args)
                                .imp()
                                .opened
                                .lock()
                                .unwrap()
                                .push(args[1].get().unwrap());
                            None
                        })
                        .build(),
                    Signal::builder("room-state")
                        .param_types([u64::static_type()])
                        .return_type::<gst::Structure>()
                        .action()
                        .run_last()
                        .class_handler(move |args| {
                            let this = this(args);
                            let epoch = args[1].get::<u64>().unwrap();
                            let rooms = this.imp().rooms.lock().unwrap();
                            let bare = RoomState {
                                epoch,
                                ..RoomState::default()
                            };
                            let mut latest_first = rooms.iter().rev();
                            let room = match rooms.is_empty() {
                                true => Some(&bare),
                                false => latest_first.find(|room| epoch == LATEST || room.epoch == epoch),
                            };
                            Some(room.map(RoomState::to_structure).to_value())
                        })
                        .build(),
                    Signal::builder("sign")
                        .param_types([String::static_type(), glib::Bytes::static_type()])
                        .return_type::<glib::Bytes>()
                        .action()
                        .run_last()
                        .class_handler(move |args| {
                            let this = this(args);
                            let purpose = args[1].get::<String>().unwrap();
                            let data = args[2].get::<glib::Bytes>().unwrap();
                            let signer = this.imp().signer.lock().unwrap();
                            let signed = match &*signer {
                                Some(sign) => sign(&purpose, &data),
                                None => [purpose.as_bytes(), &data[..]].concat(),
                            };
                            Some(Some(glib::Bytes::from_owned(signed)).to_value())
                        })
                        .build(),
                    Signal::builder("keys-changed")
                        .param_types([u64::static_type()])
                        .build(),
                    Signal::builder("room-changed")
                        .param_types([u64::static_type()])
                        .build(),
                ]
            });
            &SIGNALS
        }
    }

    impl GstObjectImpl for TestSource {}
}

glib::wrapper! {
    pub struct TestSource(ObjectSubclass<imp::TestSource>) @extends gst::Object;
}

impl TestSource {
    pub fn new() -> Self {
        glib::Object::new()
    }

    pub fn key(base_key: &[u8], epoch: u64, leaf: u32, sender: &str) -> Key {
        Key {
            base_key: base_key.to_vec(),
            epoch,
            leaf,
            sender: sender.into(),
        }
    }

    /// What `sender-key` answers from now on; tell with [`Self::changed`].
    pub fn set_sender(&self, key: Option<(u64, Key, std::ops::Range<u64>)>) {
        *self.imp().sender.lock().unwrap() = key;
    }

    pub fn set_receiver(&self, kid: u64, key: Option<Key>) {
        let mut receivers = self.imp().receivers.lock().unwrap();
        match key {
            Some(key) => receivers.insert(kid, key),
            None => receivers.remove(&kid),
        };
    }

    /// The room enters an epoch, or this endpoint stands otherwise with it.
    pub fn set_room(&self, room: RoomState) {
        let epoch = room.epoch;
        self.imp().rooms.lock().unwrap().push(room);
        self.emit_by_name::<()>("room-changed", &[&epoch]);
    }

    /// What `sign` answers with from now on.
    pub fn set_signer(&self, sign: impl Fn(&str, &[u8]) -> Vec<u8> + Send + 'static) {
        *self.imp().signer.lock().unwrap() = Some(Box::new(sign));
    }

    pub fn changed(&self) {
        self.emit_by_name::<()>("keys-changed", &[&0u64]);
    }

    pub fn opened(&self) -> Vec<u64> {
        self.imp().opened.lock().unwrap().clone()
    }

    pub fn asked(&self) -> Vec<u64> {
        self.imp().asked.lock().unwrap().clone()
    }

    pub fn senders_asked(&self) -> Vec<String> {
        self.imp().senders_asked.lock().unwrap().clone()
    }

    /// An element that was given this source.
    pub fn element(&self, factory: &str) -> gst::Element {
        super::init();
        let element = gst::ElementFactory::make(factory).build().unwrap();
        element.set_context(&self.context("default"));
        element
    }

    pub fn context(&self, id: &str) -> gst::Context {
        let mut context = gst::Context::new(&format!("gst.sframe.keyring/{id}"), true);
        let structure = context.get_mut().unwrap().structure_mut();
        structure.set("keyring", self.upcast_ref::<gst::Object>());
        context
    }
}
