//! Memory of many streams before disks that stall.

use super::*;

const MESSAGE: usize = 32 * 1024;

#[tokio::test(start_paused = true)]
async fn stalled_streams_share_a_budget_and_each_has_a_first_amount() {
    const TOTAL: u64 = 8 << 20;
    let budget = Arc::new(Budget::new(TOTAL));
    let message = vec![0; MESSAGE];
    let mut streams = Vec::new();
    for _ in 0..50 {
        let (leave, stalled) = sync_channel(1_000);
        let sink = StallingSink { leave: stalled, writes: Arc::default(), bytes: Arc::default() };
        streams.push((stream_within(Box::new(sink), &budget), leave));
    }
    // The first ones flood, and take all there is.
    let mut accepted = Vec::new();
    for (stream, _) in &streams {
        let mut bytes = 0;
        while futures_poll(std::pin::pin!(stream.data(Source::Target, 0, &message))).await {
            bytes += MESSAGE;
            assert!(bytes <= 3 * MAX_PENDING, "one stream has no bound");
        }
        accepted.push(bytes);
    }
    assert!(budget.left() < 2 * MESSAGE as u64, "{}", budget.left());
    assert!(accepted[0] > accepted[49] && accepted.iter().all(|bytes| *bytes >= BATCH), "{accepted:?}");
    // One message more for each, and what packets and blocks add.
    let most = TOTAL + 50 * (BATCH + 2 * MESSAGE) as u64;
    let total: usize = accepted.iter().sum();
    assert!(total as u64 <= most, "{total} of at most {most}");
    assert!(!futures_poll(std::pin::pin!(streams[49].0.keeps_up())).await, "it is behind");

    // A stream whose disk works goes on while all others stall and nothing is left.
    let (last, leave) = &streams[49];
    for _ in 0..1_000 {
        leave.send(()).unwrap();
    }
    for _ in 0..100 {
        last.data(Source::Target, 0, &message).await.unwrap();
    }
    for (stream, leave) in &streams {
        while leave.try_send(()).is_ok() {}
        stream.close().await.unwrap();
    }
    assert_eq!(budget.left(), TOTAL, "all of it is given back");
}
