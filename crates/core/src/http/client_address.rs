//! The addresses of clients: where they come from, and as the unit of limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The header in which Cloudflare states the client's address.
const PLATFORM_HEADER: &str = "cf-connecting-ip";
/// Stands for an address that nothing states, such as that of a Unix socket.
pub const UNKNOWN: &str = "unknown";

/// The address that a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress<'r> {
    pub text: &'r str,
    /// Whether it is known to be the client's. Otherwise it may be that of a proxy, which many clients share.
    pub is_clients: bool,
}

/// What a deployment's addresses are read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressSource<'s> {
    /// Whether the gateway runs without Cloudflare, so that anybody can send Cloudflare's header.
    pub standalone: bool,
    /// The header that a trusted proxy sets, in lower case.
    pub header: Option<&'s str>,
}

impl AddressSource<'_> {
    /// The address of the request with these headers, each with its lines joined by commas. `peer` is the other end of
    /// its TCP connection with the port, if the platform states it.
    pub fn of_request<'r>(self, header: impl Fn(&str) -> Option<&'r str>, peer: &'r str) -> ClientAddress<'r> {
        // Values before the last may come from the client.
        let last = |list: &'r str| list.rsplit(',').next();
        if let Some(text) = self.header.and_then(&header).and_then(last).and_then(ip_address) {
            return ClientAddress { text, is_clients: true };
        }
        match self.standalone {
            true => ClientAddress { text: ip_address(peer).unwrap_or(UNKNOWN), is_clients: false },
            false => ClientAddress { text: header(PLATFORM_HEADER).unwrap_or(UNKNOWN), is_clients: true },
        }
    }
}

/// The IP address in a text that may also have a port, and brackets around an IPv6 address.
fn ip_address(text: &str) -> Option<&str> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None if text.parse::<Ipv6Addr>().is_ok() => (text, ""),
        None => {
            let at = text.find(':').unwrap_or(text.len());
            let (host, port) = text.split_at_checked(at)?;
            host.parse::<Ipv4Addr>().ok()?;
            (host, port)
        }
    };
    if !port.is_empty() {
        port.strip_prefix(':')?.parse::<u16>().ok()?;
    }
    Some(without_mapping(host))
}

/// An IPv4 address that a socket for both versions writes as `::ffff:192.0.2.7` (RFC 4291 §2.5.5.2).
fn without_mapping(address: &str) -> &str {
    address.strip_prefix("::ffff:").filter(|rest| rest.parse::<Ipv4Addr>().is_ok()).unwrap_or(address)
}

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
    use proptest::prelude::*;

    use super::*;

    const CLOUDFLARE: AddressSource<'_> = AddressSource { standalone: false, header: None };
    const STANDALONE: AddressSource<'_> = AddressSource { standalone: true, header: None };
    const BEHIND_PROXY: AddressSource<'_> = AddressSource { standalone: true, header: Some("x-forwarded-for") };

    fn address<'r>(source: AddressSource<'_>, headers: &[(&str, &'r str)], peer: &'r str) -> ClientAddress<'r> {
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        source.of_request(find, peer)
    }

    fn clients(text: &str) -> ClientAddress<'_> {
        ClientAddress { text, is_clients: true }
    }

    fn peers(text: &str) -> ClientAddress<'_> {
        ClientAddress { text, is_clients: false }
    }

    #[test]
    fn cloudflare_states_the_address() {
        assert_eq!(address(CLOUDFLARE, &[("cf-connecting-ip", "192.0.2.7")], ""), clients("192.0.2.7"));
        let headers = [("x-forwarded-for", "192.0.2.9"), ("cf-connecting-ip", "2001:db8::1")];
        assert_eq!(address(CLOUDFLARE, &headers, "10.0.0.1:1"), clients("2001:db8::1"));
        assert_eq!(address(CLOUDFLARE, &[], "10.0.0.1:1"), clients("unknown"));
    }

    #[test]
    fn a_proxy_before_cloudflare_may_state_it_too() {
        let source = AddressSource { header: Some("x-forwarded-for"), ..CLOUDFLARE };
        let headers = [("cf-connecting-ip", "192.0.2.7"), ("x-forwarded-for", "192.0.2.9")];
        assert_eq!(address(source, &headers, ""), clients("192.0.2.9"));
        assert_eq!(address(source, &headers[..1], ""), clients("192.0.2.7"));
    }

    #[test]
    fn without_cloudflare_its_header_says_nothing() {
        let headers = [("cf-connecting-ip", "192.0.2.7"), ("x-forwarded-for", "192.0.2.9")];
        assert_eq!(address(STANDALONE, &headers, "10.0.0.1:43370"), peers("10.0.0.1"));
        assert_eq!(address(STANDALONE, &[], "[::1]:555"), peers("::1"));
        assert_eq!(address(STANDALONE, &[], "[::ffff:10.0.0.1]:555"), peers("10.0.0.1"));
        for no_address in ["", "unix:/run/narthex.sock", "localhost:80", "10.0.0.1:", "10.0.0.1:x"] {
            assert_eq!(address(STANDALONE, &headers, no_address), peers("unknown"), "{no_address}");
        }
    }

    #[test]
    fn the_last_value_of_the_proxys_header_is_the_address() {
        for (value, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("1.2.3.4, 192.0.2.7", "192.0.2.7"),
            ("1.2.3.4,unknown,\t192.0.2.7:4711 ", "192.0.2.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("1.2.3.4, [2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            assert_eq!(
                address(BEHIND_PROXY, &[("x-forwarded-for", value)], "10.0.0.1:1"),
                clients(expected),
                "{value}"
            );
        }
    }

    #[test]
    fn without_an_address_in_the_proxys_header_it_is_that_of_the_peer() {
        assert_eq!(address(BEHIND_PROXY, &[("cf-connecting-ip", "192.0.2.7")], "10.0.0.1:1"), peers("10.0.0.1"));
        for value in [
            "",
            "192.0.2.7,",
            "192.0.2.7, unknown",
            "for=192.0.2.7",
            "192.0.2.7:99999",
            "192.0.2.7 1.2.3.4",
            "192.0.2",
            "[192.0.2.7]",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]443",
            "fe80::1%eth0",
        ] {
            assert_eq!(
                address(BEHIND_PROXY, &[("x-forwarded-for", value)], "10.0.0.1:1"),
                peers("10.0.0.1"),
                "{value}"
            );
        }
    }

    #[test]
    fn one_client_is_one_source() {
        assert_eq!(source("192.0.2.7"), "192.0.2.7");
        assert_eq!(source("unknown"), "unknown");
        assert_eq!(source("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(source("2001:0db8:1:2::"), source("2001:db8:1:2:ffff::1"));
        // Otherwise all of IPv4 would be one client.
        assert_eq!(source("::ffff:192.0.2.7"), "192.0.2.7");
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_none(value in "\\PC{0,20}|[0-9a-f.:\\[\\], ]{0,40}", peer in "\\PC{0,20}|[0-9a-f.:\\[\\]]{0,30}") {
            let found = address(BEHIND_PROXY, &[("x-forwarded-for", &value)], &peer);
            prop_assert!(found.text == UNKNOWN || found.text.parse::<IpAddr>().is_ok());
        }

        #[test]
        fn every_address_is_found_with_and_without_a_port(ip: IpAddr, port: u16, before in "[ -~]{0,20}") {
            let socket = std::net::SocketAddr::new(ip, port).to_string();
            for text in [ip.to_string(), socket.clone(), format!("{before},{socket}")] {
                let found = address(BEHIND_PROXY, &[("x-forwarded-for", &text)], "");
                prop_assert!(found.is_clients);
                let found: IpAddr = found.text.parse().unwrap();
                prop_assert_eq!(found.to_canonical(), ip.to_canonical());
            }
        }
    }
}
