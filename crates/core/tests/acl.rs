//! The users of Redis, by what a real one refuses them.

use pricing_core::redis::acl::{RedisUser, acl_file};
use pricing_harness::redis_server::RedisServer;
use redis::{Client, Cmd, RedisResult, Value};

fn command(words: &str) -> Cmd {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().expect("a command"));
    command.arg(words.collect::<Vec<_>>());
    command
}

async fn run(url: &str, words: &str) -> RedisResult<Value> {
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    command(words).query_async(&mut connection).await
}

#[tokio::test]
async fn a_user_may_do_what_its_service_does_and_nothing_else() {
    let server = RedisServer::start().await;
    let login = |user: &str| server.url().replace("services:services", &format!("{user}:{user}"));
    for (user, allowed, refused) in [
        (
            "api",
            &["MGET e2e:product:4:P-1", "PUBLISH market_events x", "XLEN e2e:events"][..],
            &[
                "FLUSHALL",
                "CONFIG GET *",
                "KEYS *",
                "SCAN 0",
                "ACL LIST",
                "GET other:key",
                "GET e2e:recalculate_global_lock",
                "SUBSCRIBE market_events",
                "PUBLISH other x",
                "XGROUP DESTROY e2e:events listeners",
                "EVAL return(1) 0",
                "SHUTDOWN",
            ][..],
        ),
        (
            "listener",
            &["XLEN e2e:events", "GET e2e:queue:{recalculate}:last_request"],
            &["GET e2e:highest_version", "PUBLISH market_events x", "DEL e2e:events", "FLUSHDB"],
        ),
        (
            "worker",
            &["GET e2e:recalculate_global_lock", "SCAN 0", "GET e2e:highest_version"],
            &["XLEN e2e:events", "PUBLISH market_events x", "REPLICAOF NO ONE", "FLUSHALL", "GET e2e:other"],
        ),
        ("health", &["PING"], &["INFO", "GET e2e:primary", "PUBLISH market_events x"]),
        (
            "publisher",
            &["PUBLISH market_events x"],
            &["PUBLISH other x", "GET e2e:primary", "XLEN e2e:events"],
        ),
    ] {
        for words in allowed {
            run(&login(user), words).await.unwrap_or_else(|error| panic!("{user}: {words}: {error}"));
        }
        for words in refused {
            let error = run(&login(user), words).await.expect_err(&format!("{user}: {words}"));
            assert_eq!(error.code(), Some("NOPERM"), "{user}: {words}: {error}");
        }
    }
    let nobody = format!("redis://{}", server.address());
    assert_eq!(run(&nobody, "GET e2e:primary").await.unwrap_err().code(), Some("NOAUTH"));
    assert!(run(&nobody.replace("redis://", "redis://default:@"), "PING").await.is_err());
    let mut administrator = server.connection().await;
    let () = command("ACL LOG RESET").query_async(&mut administrator).await.unwrap();
}

#[tokio::test]
async fn another_prefix_and_channel_have_users_of_their_own() {
    let server = RedisServer::start().await;
    let mut administrator = server.connection().await;
    let file = acl_file("{shop}*:", "shop[2]", |user| format!("pw-{}", user.name()).into()).unwrap();
    for line in file.lines().skip(1) {
        let words = line.strip_prefix("user ").unwrap();
        let () = command(&format!("ACL SETUSER {words}")).query_async(&mut administrator).await.unwrap();
    }
    let login = |user: RedisUser| format!("redis://{0}:pw-{0}@{1}", user.name(), server.address());
    run(&login(RedisUser::Api), "MGET {shop}*:product:4:P-1").await.unwrap();
    run(&login(RedisUser::Publisher), "PUBLISH shop[2] x").await.unwrap();
    for (user, words) in
        [(RedisUser::Api, "MGET {shop}x:product:4:P-1"), (RedisUser::Publisher, "PUBLISH shop2 x")]
    {
        assert_eq!(run(&login(user), words).await.unwrap_err().code(), Some("NOPERM"), "{words}");
    }
    let _: Value = command("ACL LOG RESET").query_async(&mut administrator).await.unwrap();
}
