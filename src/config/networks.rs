//! A setting that is a list of addresses and networks.

use core::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value as Json;
use toml::de::DeValue;

use super::value::Value;

/// Networks, in the order in which they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Whether the address, which is not an IPv4 address within IPv6, is in one of
    /// them.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    fn parse(texts: &[String]) -> Result<Self, String> {
        let network = |text: &String| {
            let alone = || text.parse::<IpAddr>().map(IpNet::from);
            let network = text.parse().map_err(|_| ()).or(alone().map_err(|_| ()));
            network.map_err(|()| {
                format!("`{text}` is no address or network: write 10.0.0.5 or 10.0.0.0/8")
            })
        };
        texts
            .iter()
            .map(network)
            .collect::<Result<_, _>>()
            .map(Networks)
    }

    fn texts(&self) -> Vec<String> {
        let text = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        self.0.iter().map(text).collect()
    }
}

impl Value for Networks {
    const TYPE: &'static str = "list of networks";

    fn from_ini(text: &str) -> Result<Self, String> {
        Networks::parse(&Vec::<String>::from_ini(text)?)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        Networks::parse(&Vec::<String>::from_toml(value)?)
    }

    fn to_ini(&self) -> Option<String> {
        self.texts().to_ini()
    }

    fn to_toml(&self) -> Option<String> {
        self.texts().to_toml()
    }

    fn schema() -> Json {
        Vec::<String>::schema()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_of_both_families() {
        let networks = Networks::from_ini("10.0.0.5, 192.168.0.0/16,::1, 2001:db8::/32").unwrap();
        let contain = |address: &str| networks.contain(address.parse().unwrap());
        for inside in ["10.0.0.5", "192.168.7.8", "::1", "2001:db8::77"] {
            assert!(contain(inside), "{inside}");
        }
        for outside in ["10.0.0.6", "192.169.0.0", "::2", "2001:db9::", "0.0.0.0"] {
            assert!(!contain(outside), "{outside}");
        }
        let text = "10.0.0.5, 192.168.0.0/16, ::1, 2001:db8::/32";
        assert_eq!(networks.to_ini().unwrap(), text);
        assert!(
            !Networks::from_ini("")
                .unwrap()
                .contain(IpAddr::from([127, 0, 0, 1]))
        );
        for wrong in ["db1", "10.0.0.0/33", "10.0.0", "10.0.0.0/8/8", "/8"] {
            let error = Networks::from_ini(wrong).unwrap_err();
            assert!(error.contains("is no address or network"), "{error}");
        }
    }
}
