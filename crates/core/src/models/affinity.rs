//! The order in which equal targets are tried: by weighted rendezvous hashing, so that a conversation has the same
//! first one everywhere without any state, and only the share of a target that dies moves.

use super::conversation::{BASIS, hash};

/// Mixes the bits of a hash (the finalizer of MurmurHash3).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

/// The score of a target for a conversation: the highest is first. With weight w, a target is first in w of the sum of
/// all weights of the conversations.
pub fn score(tenant: &str, conversation: u64, target: (&str, &str), weight: u64) -> f64 {
    let mut state = hash(BASIS, tenant.as_bytes());
    state = hash(state, &conversation.to_le_bytes());
    for part in [target.0, target.1] {
        state = hash(hash(state, part.as_bytes()), &[0]);
    }
    // In the open interval from 0 to 1.
    let uniform = ((mixed(state) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    weight as f64 / -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: [(&str, u64); 5] = [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 4)];

    fn first(conversation: u64, without: Option<&str>) -> &'static str {
        let score = |(name, weight): (&str, u64)| score("default", conversation, (name, "m"), weight);
        let among = TARGETS.into_iter().filter(|(name, _)| Some(*name) != without);
        among.max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap().0
    }

    #[test]
    fn targets_get_their_share_of_conversations() {
        let mut counts = std::collections::BTreeMap::new();
        for conversation in 0..8_000 {
            *counts.entry(first(conversation, None)).or_insert(0u64) += 1;
        }
        for (name, weight) in TARGETS {
            let count = counts[name];
            assert!((weight * 850..=weight * 1_150).contains(&count), "{name} {count}");
        }
    }

    #[test]
    fn only_the_share_of_a_target_that_dies_moves() {
        let mut moved = 0;
        for conversation in 0..1_000 {
            let (before, after) = (first(conversation, None), first(conversation, Some("b")));
            if before == "b" {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(moved > 50);
    }
}
