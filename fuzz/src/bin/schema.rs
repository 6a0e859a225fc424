//! JSON Schemas and values, both hostile: every check ends, and says where it fails.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::json::{Fault, MAX_DEPTH, check};
use narthex_core::services::schema::Schema;
use narthex_fuzz::{assert_pointer, two_texts};

/// Faults are there, few enough to be read, and each says where, from the root of the schema or value.
fn assert_faults(faults: &[Fault]) {
    assert!((1..=50).contains(&faults.len()), "{faults:?}");
    faults.iter().for_each(|fault| assert_pointer(&format!("#{}", fault.pointer)));
}

fuzz_target!(|input: &[u8]| {
    let Some((schema, value)) = two_texts(input) else { return };
    if check(schema.as_bytes(), MAX_DEPTH).is_err() {
        return;
    }
    let compiled = match Schema::compile(schema) {
        Ok(compiled) => compiled,
        Err(faults) => return assert_faults(&faults),
    };
    let Ok(value) = check(value.as_bytes(), MAX_DEPTH) else { return };
    match compiled.check(value) {
        Ok(()) => {}
        Err(faults) => {
            assert!(!compiled.accepts_all());
            assert_faults(&faults);
        }
    }
});
