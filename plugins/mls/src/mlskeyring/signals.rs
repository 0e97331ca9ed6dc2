//! The signals and actions of `mlskeyring`.

use gst::glib;
use gst::glib::subclass::Signal;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::MlsKeyring;
use crate::room::Command;

/// An action: a signal that an application emits.
fn action<T>(
    name: &'static str,
    params: &[glib::Type],
    f: impl Fn(&MlsKeyring, &[glib::Value]) -> T + Send + Sync + 'static,
    refused: T,
) -> Signal
where
    T: ToValue + StaticType + Clone + Send + Sync + 'static,
{
    Signal::builder(name)
        .param_types(params.iter().copied())
        .return_type::<T>()
        .action()
        .run_last()
        .class_handler(move |args| {
            let element = args
                .first()
                .and_then(|value| value.get::<super::MlsKeyring>().ok());
            let answer = element.map_or_else(|| refused.clone(), |element| f(element.imp(), args));
            Some(answer.to_value())
        })
        .build()
}

/// All of them.
pub fn signals() -> Vec<Signal> {
    let string = String::static_type();
    let text = |args: &[glib::Value]| {
        args.get(1)
            .and_then(|v| v.get::<String>().ok())
            .unwrap_or_default()
    };
    vec![
        action(
            "remove-member",
            &[string],
            move |element, args| element.wish(Command::Remove { member: text(args) }),
            false,
        ),
        action(
            "update-key",
            &[],
            |element, _| element.wish(Command::Rekey),
            false,
        ),
        action(
            "set-recording",
            &[bool::static_type()],
            |element, args| {
                let on = args.get(1).is_some_and(|v| v.get().unwrap_or(false));
                element.wish(Command::SetRecording { on })
            },
            false,
        ),
        action(
            "change-policy",
            &[string],
            move |element, args| element.change_policy(&text(args)),
            false,
        ),
        action("resync", &[], |element, _| element.wish(Command::Resync), false),
        action(
            "verification-code",
            &[string],
            move |element, args| {
                let codes = element.asker().map(|asker| asker.codes(Some(&text(args))));
                match codes {
                    Some(Ok(codes)) => codes.pair.map(|pair| pair.code),
                    _ => None,
                }
            },
            None::<String>,
        ),
        action(
            "confirm-code",
            &[string, string],
            move |element, args| {
                let member = args.get(1).and_then(|v| v.get::<Option<String>>().ok()).flatten();
                let code = args.get(2).and_then(|v| v.get::<String>().ok());
                code.is_some_and(|code| element.wish(Command::Confirm { member, code }))
            },
            false,
        ),
        action(
            "process-message",
            &[glib::Bytes::static_type()],
            |element, args| {
                let bytes = args.get(1).and_then(|v| v.get::<glib::Bytes>().ok());
                bytes.is_some_and(|bytes| element.process_message(&bytes))
            },
            false,
        ),
        // Asked on the room's thread: subject id, roles ("participant", "recorder" or both with a comma), certificate
        // (PEM). The first handler's answer counts.
        Signal::builder("authorize-member")
            .param_types([string, string, string])
            .return_type::<bool>()
            .run_last()
            .accumulator(|_hint, _before, answer| std::ops::ControlFlow::Break(answer.clone()))
            .build(),
        // delivery=app: carry these bytes to all members, this one included, in one order for all.
        Signal::builder("message-ready")
            .param_types([string, glib::Bytes::static_type()])
            .run_last()
            .build(),
    ]
}
