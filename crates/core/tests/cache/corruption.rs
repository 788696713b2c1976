//! An entry that breaks its contract is never served, is removed, and does not keep a good one out.

use pricing_core::cache::{Cached, CachedInputs, Entry};

use crate::{Bench, NOTHING, fresh, location, market, product, product_id};

const GOOD: &[u8] = br#"[5499,null,null,null,"USD"]"#;
const HIGHEST: &str = "9007199254740992";

/// What somebody wrote in place of an entry.
enum Damage {
    /// An entry of this version and data.
    Entry(&'static str, Vec<u8>),
    /// An entry that lives longer than any.
    Eternal(&'static str, &'static [u8]),
    /// Another text.
    Text(&'static str),
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
    let entry = |version, data: &[u8]| Damage::Entry(version, data.to_vec());
    let too_long = [GOOD, &b" ".repeat(2_000)].concat();
    let deep_arrays = b"[".repeat(100_000);
    let deep_unknown_field = [br#"{"x":"#.as_slice(), &b"[".repeat(100_000)].concat();
    let mut damages: Vec<Damage> = data.iter().map(|data| entry(HIGHEST, data)).collect();
    damages.extend([too_long, deep_arrays, deep_unknown_field].map(|data| entry(HIGHEST, &data)));
    for version in
        ["", "0", "-1", "x", "1.5", "1e3", "inf", "nan", "9007199254740993", "99999999999999999999"]
    {
        damages.push(entry(version, GOOD));
    }
    damages.push(Damage::Eternal("1", GOOD));
    damages.push(Damage::Eternal("1", br#"[950000,50000,"USD",null,1,0,null]"#));
    damages.push(Damage::Eternal("0", b"null"));
    let texts = [
        "",
        " ",
        "1",
        "1 ",
        "1  ",
        "1 x null",
        "1 -1 null",
        "1 99999999999999999999 null",
        "9007199254740992 1 null",
        "9007199254740992",
        "9007199254740992 1764000000000",
        r#"[5499,null,null,null,"USD"]"#,
    ];
    damages.extend(texts.map(Damage::Text));
    damages
}

impl Bench {
    async fn damage(&self, name: &str, damage: &Damage) {
        match damage {
            Damage::Entry(version, data) => self.put(name, version, 650_000, data).await,
            Damage::Eternal(version, data) => self.put(name, version, 1 << 50, data).await,
            Damage::Text(text) => self.command("SET", name, *text).await,
        }
    }
}

impl Damage {
    fn describe(&self) -> String {
        match self {
            Self::Entry(version, data) => format!("{version}, {:.60}", String::from_utf8_lossy(data)),
            Self::Eternal(version, data) => format!("eternal {version}, {}", String::from_utf8_lossy(data)),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

#[tokio::test]
async fn a_corrupt_entry_is_never_served_is_removed_and_a_fill_takes_its_place() {
    let bench = Bench::start().await;
    let (good_product, good_market) = (product(1, 100), market(1, 950_000));
    for damage in damages() {
        let what = damage.describe();
        bench.damage("product:4:P-1", &damage).await;
        bench.damage("market:4:NY", &damage).await;

        let inputs = bench.inputs("P-1", "NY").await;
        assert_eq!(inputs, (Cached::Corrupt, Cached::Corrupt), "{what}");
        for name in ["product:4:P-1", "market:4:NY"] {
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
        bench.damage("product:4:P-1", &damage).await;
        bench.damage("market:4:NY", &damage).await;
        let ids = ["P-1", "P-2", "P-1"].map(product_id);
        let CachedInputs { products, market } = bench.cache.get(&ids, &location("NY")).await.unwrap();
        assert_eq!(products[..], [Cached::Corrupt, Cached::Absent, Cached::Corrupt], "{what}");
        assert_eq!(market, Cached::Corrupt, "{what}");
        bench.damage("market:4:NY", &damage).await;
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
            bench.command::<()>("DEL", &format!("product:4:{id}"), NOTHING).await;
        }
        bench.damage("product:4:P-1", &damage).await;
        assert!(bench.store(&entries).await >= 2, "{what}");
        assert_eq!(fresh(bench.product("P-0").await), Some(good), "{what}");
        assert_eq!(fresh(bench.product("P-2").await), Some(good), "{what}");
        let served = bench.product("P-1").await;
        assert!(served == Cached::Corrupt || fresh(served) == Some(good), "{what}: {served:?}");
    }
}

/// Redis says of a key of another type what it says of none.
#[tokio::test]
async fn a_key_of_another_type_is_a_miss_and_a_fill_takes_its_place() {
    let bench = Bench::start().await;
    let (good, neighbour) = (product(1, 100), product(1, 200));
    let others = [("RPUSH", ["v", "d"].as_slice()), ("HSET", &["v", "1"]), ("XADD", &["*", "v", "1"])];
    for (command, arguments) in others {
        bench.command::<()>("DEL", "product:4:P-1", NOTHING).await;
        bench.command::<redis::Value>(command, "product:4:P-1", arguments).await;
        assert_eq!(bench.product("P-1").await, Cached::Absent, "{command}");
        let ids = ["P-1", "P-2"].map(product_id);
        assert_eq!(
            bench.store(&[Entry::Product(&ids[0], &good), Entry::Product(&ids[1], &neighbour)]).await,
            2
        );
        assert_eq!(fresh(bench.product("P-1").await), Some(good), "{command}");
        assert_eq!(fresh(bench.product("P-2").await), Some(neighbour), "{command}");
    }
}
