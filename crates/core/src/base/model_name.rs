//! The names of models: as providers and operators choose them.

/// The longest name, in bytes.
pub const MAX_MODEL_NAME: usize = 128;

/// Whether a text may name a model: 1 to 128 printable ASCII characters other than blank and comma, which separate
/// names in lists.
pub fn is_model_name(text: &str) -> bool {
    (1..=MAX_MODEL_NAME).contains(&text.len()) && text.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b',')
}
