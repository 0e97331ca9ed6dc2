//! The key contract across languages: a key source written in Python (`tests/python/key_source.py`) feeds the
//! elements in a real pipeline. Each test runs one scenario in a process of its own, which checks what became of
//! every frame.

use gst_e2ee_tests::process::Sandbox;

fn scenario(name: &str) {
    let sandbox = Sandbox::new();
    let mut command = sandbox.python("key_source_scenarios.py");
    // A GLib or GStreamer critical is a bug, too.
    command.arg(name).env("G_DEBUG", "fatal-criticals");
    let finished = sandbox.run(name, &mut command).expect_success();
    let last = finished
        .printed
        .lines()
        .find(|line| line.starts_with("ok "))
        .unwrap_or_default();
    assert!(last.starts_with(&format!("ok {name}")), "{}", finished.printed);
    assert!(!finished.printed.contains("panicked"), "{}", finished.printed);
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                scenario(stringify!($name));
            }
        )*

        /// A scenario that nobody runs proves nothing.
        #[test]
        fn every_scenario_is_run() {
            let sandbox = Sandbox::new();
            let finished = sandbox.run("list", sandbox.python("key_source_scenarios.py").arg("--list")).expect_success();
            let mut known: Vec<&str> = finished.printed.lines().collect();
            let mut run = vec![$(stringify!($name)),*];
            known.sort_unstable();
            run.sort_unstable();
            assert_eq!(known, run);
        }
    };
}

scenarios! {
    serves_video
    serves_audio
    serves_video_over_rtp
    serves_audio_over_rtp
    serves_single_packets
    rotates_video
    rotates_audio_over_rtp
    rotates_from_another_thread
    no_sender_key_at_first
    sender_key_goes_away
    receiver_key_within_hold_time
    receiver_key_never
    receiver_key_goes_away
    counters_over_state_cycles
    counters_of_two_senders
    ranges_answered_out_of_order
    counters_over_flushes
    counters_over_bare_flushes
    repeated_range
    same_range_after_a_restart
    missing_signal
    mistyped_signal
    wrong_sender_fields
    wrong_receiver_fields
    raising_source
    answers_of_another_type
    no_key_source
    two_keyrings
    asked_for_on_the_bus
    source_is_replaced
    broken_source_does_not_replace
    source_is_let_go
}
