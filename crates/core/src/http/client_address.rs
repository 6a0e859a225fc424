//! Client addresses as the unit of limits.

use std::net::IpAddr;

/// The source under which requests of an address are counted. For IPv6 that is the /64, as one client has all of it.
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
        // Otherwise all of IPv4 would be one client.
        assert_eq!(source("::ffff:192.0.2.7"), "192.0.2.7");
    }
}
