//! Clients' addresses, as far as what one does is counted together.

use std::net::IpAddr;

/// Whose requests count together: in IPv6 one client has a whole /64 to choose from.
pub fn source(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::")
            }
        },
        _ => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_is_one_source() {
        assert_eq!(source("192.0.2.7"), "192.0.2.7");
        assert_eq!(source("unknown"), "unknown");
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(source("2001:0db8:1:2::"), source("2001:db8:1:2:ffff::1"));
        // Or all of IPv4 would be one client.
        assert_eq!(source("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
