//! How browsers reach us: what stands before this process, and what it is called.
//!
//! Only a proxy on this machine is believed about whom it speaks for, and only when the settings say so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, header};

use crate::config::Browsers;
use crate::tls::Peer;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What handlers need of it.
#[derive(Clone, Debug)]
pub struct Front {
    /// Browsers speak TLS with us or with the proxy.
    pub secure: bool,
    trusted_proxy: bool,
    origin: Option<Arc<str>>,
}

impl Front {
    /// As the settings say.
    #[must_use]
    pub fn of(settings: &Browsers) -> Self {
        Self {
            secure: settings.certificate.is_some() || settings.origin.is_some(),
            trusted_proxy: settings.trusted_proxy,
            origin: settings.origin.as_deref().map(Arc::from),
        }
    }

    /// The session cookie. The `__Host-` prefix binds it to this host, which needs TLS (RFC 6265bis).
    #[must_use]
    pub const fn cookie_name(&self) -> &'static str {
        if self.secure { "__Host-antuo" } else { "antuo" }
    }

    /// Where a request comes from. What the proxy adds stands last; whatever is before came with the
    /// request and may be anything.
    #[must_use]
    pub fn client(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let peer = peer.address.ip();
        if !self.trusted_proxy || !peer.to_canonical().is_loopback() {
            return peer;
        }
        let last = headers.get_all(FORWARDED_FOR).iter().next_back();
        let hops = last.and_then(|value| value.to_str().ok());
        let hop = hops.and_then(|hops| hops.rsplit(',').next());
        hop.and_then(|hop| address(hop.trim())).unwrap_or(peer)
    }

    /// Whether a change that names its origin comes from our own pages (RFC 6454).
    #[must_use]
    pub fn is_own(&self, origin: &str, headers: &HeaderMap) -> bool {
        if let Some(own) = &self.origin {
            return **own == *origin;
        }
        let named = headers.get(header::HOST).and_then(|v| v.to_str().ok());
        let host = origin.split_once("://").map(|(_, host)| host);
        host.is_some() && host == named
    }
}

/// Some proxies add the port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.parse::<IpAddr>().ok();
    bare.or_else(|| hop.parse::<SocketAddr>().ok().map(|at| at.ip()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn front(trusted_proxy: bool, origin: Option<&str>) -> Front {
        Front::of(&Browsers {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: None,
            trusted_proxy,
            origin: origin.map(str::to_owned),
        })
    }

    fn client(trusted_proxy: bool, peer: &str, hops: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for hop in hops {
            headers.append(FORWARDED_FOR, hop.parse().unwrap());
        }
        let address = SocketAddr::new(peer.parse().unwrap(), 1);
        let peer = Peer { address, key: None };
        front(trusted_proxy, None)
            .client(&peer, &headers)
            .to_string()
    }

    #[test]
    fn only_a_trusted_proxy_on_this_machine_says_who_the_client_is() {
        let hops = &["198.51.100.9", "198.51.100.8, 192.0.2.7"];
        assert_eq!(client(true, "127.0.0.1", hops), "192.0.2.7");
        assert_eq!(client(true, "::1", hops), "192.0.2.7");
        assert_eq!(client(false, "127.0.0.1", hops), "127.0.0.1");
        assert_eq!(client(true, "203.0.113.5", hops), "203.0.113.5");
        assert_eq!(client(true, "127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(
            client(true, "127.0.0.1", &["192.0.2.7, unknown"]),
            "127.0.0.1"
        );
        assert_eq!(client(true, "127.0.0.1", &["192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(
            client(true, "127.0.0.1", &["[2001:db8::1]:4711"]),
            "2001:db8::1"
        );
    }

    #[test]
    fn a_set_origin_goes_before_the_host_header_and_makes_the_cookie_secure() {
        let headers = HeaderMap::from_iter([(header::HOST, "evil.cn".parse().unwrap())]);
        let set = front(true, Some("https://antuo.cn"));
        assert!(set.is_own("https://antuo.cn", &headers));
        assert!(!set.is_own("http://antuo.cn", &headers));
        assert!(!set.is_own("https://evil.cn", &headers));
        assert!(front(true, None).is_own("https://evil.cn", &headers));
        assert_eq!(set.cookie_name(), "__Host-antuo");
        assert_eq!(front(true, None).cookie_name(), "antuo");
    }
}
