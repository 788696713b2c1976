//! An entry that breaks its contract is never served, is removed, and does not keep a good one out.

use pricing_core::cache::{Cached, CachedInputs, Entry};

use crate::{Bench, NOTHING, fresh, location, market, product, product_id};

const GOOD: &[u8] = br#"[5499,null,null,null,"USD"]"#;
const HIGHEST: &str = "9007199254740992";

/// What somebody wrote in place of an entry.
enum Damage {
    /// A hash of these fields that expires.
    Hash(Vec<(&'static str, Vec<u8>)>),
    /// A hash that never expires.
    Eternal(&'static str, &'static [u8]),
    /// A command that makes something else.
    Other(&'static str, Vec<&'static str>),
}

fn damages() -> Vec<Damage> {
    let data: [&[u8]; 19] = [
        b"",
        b"{",
        br#"[5499,null,null,null,"US"#,
        br#"["5499",null,null,null,"USD"]"#,
        br#"[54.99,null,null,null,"USD"]"#,
        br#"[null,null,null,null,"USD"]"#,
        br#"[-1,null,null,null,"USD"]"#,
        br#"[NaN,null,null,null,"USD"]"#,
        br#"[5499,1e999,null,null,"USD"]"#,
        br#"[5499,null,1000000000000,null,"USD"]"#,
        br#"[5499,null,null,99999999999999999999,"USD"]"#,
        br#"[5499,null,null,null,"usd"]"#,
        br#"[5499,null,null,null,840]"#,
        br#"[5499,null,null,null]"#,
        br#"[5499,null,null,null,"USD"] []"#,
        br#"[-1,50000,"USD",null,1,0,null]"#,
        br#"[100000001,50000,"USD",null,1,0,null]"#,
        b"5499",
        &[0xff; 40],
    ];
    let hash = |version: &str, data: &[u8]| Damage::Hash(vec![("v", version.into()), ("d", data.to_vec())]);
    let too_long = [GOOD, &b" ".repeat(2_000)].concat();
    let deep_arrays = b"[".repeat(100_000);
    let deep_unknown_field = [br#"{"x":"#.as_slice(), &b"[".repeat(100_000)].concat();
    let mut damages: Vec<Damage> = data.iter().map(|data| hash(HIGHEST, data)).collect();
    damages.extend([too_long, deep_arrays, deep_unknown_field].map(|data| hash(HIGHEST, &data)));
    for version in
        ["", "0", "-1", "x", "1.5", "1e3", "inf", "nan", "9007199254740993", "99999999999999999999"]
    {
        damages.push(hash(version, GOOD));
    }
    damages.push(Damage::Hash(vec![("v", HIGHEST.into())]));
    damages.push(Damage::Hash(vec![("d", GOOD.to_vec())]));
    damages.push(Damage::Eternal("1", GOOD));
    damages.push(Damage::Eternal("1", br#"[950000,50000,"USD",null,1,0,null]"#));
    damages.push(Damage::Eternal("0", b""));
    damages.push(Damage::Other("SET", vec!["[5499,null,null,null,\"USD\"]"]));
    damages.push(Damage::Other("RPUSH", vec!["v", "d"]));
    damages.push(Damage::Other("SADD", vec!["v", "d"]));
    damages.push(Damage::Other("XADD", vec!["*", "v", "1"]));
    damages
}

impl Bench {
    async fn damage(&self, name: &str, damage: &Damage) {
        self.command::<()>("DEL", name, NOTHING).await;
        match damage {
            Damage::Hash(fields) => {
                self.command::<()>("HSET", name, fields).await;
                self.command::<()>("PEXPIRE", name, 650_000).await;
            }
            Damage::Eternal(version, data) => {
                self.command::<()>("HSET", name, &[("v", version.as_bytes()), ("d", data)]).await;
            }
            Damage::Other(command, arguments) => {
                self.command::<redis::Value>(command, name, arguments).await;
            }
        }
    }
}

impl Damage {
    fn describe(&self) -> String {
        match self {
            Self::Hash(fields) => {
                let field = |(name, text): &(&str, Vec<u8>)| {
                    format!("{name} = {:.60}", String::from_utf8_lossy(text))
                };
                fields.iter().map(field).collect::<Vec<_>>().join(", ")
            }
            Self::Eternal(version, data) => {
                format!("eternal v = {version}, d = {}", String::from_utf8_lossy(data))
            }
            Self::Other(command, arguments) => format!("{command} {arguments:?}"),
        }
    }
}

#[tokio::test]
async fn a_corrupt_entry_is_never_served_is_removed_and_a_fill_takes_its_place() {
    let bench = Bench::start().await;
    let (good_product, good_market) = (product(1, 100), market(1, 950_000));
    for damage in damages() {
        let what = damage.describe();
        bench.damage("product:3:P-1", &damage).await;
        bench.damage("market:3:NY", &damage).await;

        let inputs = bench.inputs("P-1", "NY").await;
        assert_eq!(inputs, (Cached::Corrupt, Cached::Corrupt), "{what}");
        for name in ["product:3:P-1", "market:3:NY"] {
            assert!(!bench.command::<bool>("EXISTS", name, NOTHING).await, "{name} is still there: {what}");
        }

        let (id, name) = (product_id("P-1"), location("NY"));
        let entries = [Entry::Product(&id, &good_product), Entry::Market(&name, &good_market)];
        assert_eq!(bench.store(&entries).await, 2, "{what}");
        let inputs = bench.inputs("P-1", "NY").await;
        assert_eq!(fresh(inputs.0), Some(good_product), "{what}");
        assert_eq!(fresh(inputs.1), Some(good_market), "{what}");
    }
}

#[tokio::test]
async fn a_corrupt_entry_is_found_by_each_way_to_read_it() {
    let bench = Bench::start().await;
    for damage in damages() {
        let what = damage.describe();
        bench.damage("product:3:P-1", &damage).await;
        bench.damage("market:3:NY", &damage).await;
        let ids = ["P-1", "P-2", "P-1"].map(product_id);
        let CachedInputs { products, market } = bench.cache.get(&ids, &location("NY")).await.unwrap();
        assert_eq!(products[..], [Cached::Corrupt, Cached::Absent, Cached::Corrupt], "{what}");
        assert_eq!(market, Cached::Corrupt, "{what}");
        bench.damage("market:3:NY", &damage).await;
        assert_eq!(bench.market("NY").await, Cached::Corrupt, "{what}");
    }
}

/// A recalculation writes without reading first: what stands in the way of one entry must not keep the
/// others from being written.
#[tokio::test]
async fn a_corrupt_entry_does_not_keep_its_neighbours_from_being_written() {
    let bench = Bench::start().await;
    let (ids, good) = (["P-0", "P-1", "P-2"].map(product_id), product(7, 700));
    let entries: Vec<_> = ids.iter().map(|id| Entry::Product(id, &good)).collect();
    for damage in damages() {
        let what = damage.describe();
        for id in &ids {
            bench.command::<()>("DEL", &format!("product:3:{id}"), NOTHING).await;
        }
        bench.damage("product:3:P-1", &damage).await;
        assert!(bench.store(&entries).await >= 2, "{what}");
        assert_eq!(fresh(bench.product("P-0").await), Some(good), "{what}");
        assert_eq!(fresh(bench.product("P-2").await), Some(good), "{what}");
        let served = bench.product("P-1").await;
        assert!(served == Cached::Corrupt || fresh(served) == Some(good), "{what}: {served:?}");
    }
}
