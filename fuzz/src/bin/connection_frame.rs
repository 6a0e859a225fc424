//! Messages of a service that connects: what is passed on of one is JSON again, and within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::json::{MAX_DEPTH, check};
use narthex_core::calling::connection::frame::{MAX_CREDIT, ServiceMessage, read};
use narthex_fuzz::assert_pointer;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = check(input, MAX_DEPTH) else { return };
    match read(text) {
        Ok(ServiceMessage::Ready { credit, resume }) => assert!(credit <= MAX_CREDIT && resume.len() <= 1_000),
        Ok(ServiceMessage::Outcome { delivery, body }) => {
            assert!((1..=80).contains(&delivery.chars().count()));
            assert!(check(body.as_bytes(), MAX_DEPTH).is_ok(), "{body}");
            assert!(body.len() <= text.len() + 20);
        }
        Ok(ServiceMessage::Progress { progress, .. }) => {
            assert!(progress.len() <= 4096 && check(progress.as_bytes(), MAX_DEPTH).is_ok());
        }
        Ok(ServiceMessage::Status(_)) => {}
        Err(faults) => {
            assert!(!faults.is_empty());
            faults.iter().for_each(|fault| assert_pointer(&fault.pointer));
        }
    }
});
