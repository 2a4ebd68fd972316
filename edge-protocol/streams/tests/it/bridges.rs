//! Commands that are passed on: a client, a bridge or several, and where the command runs.

use edge_streams::ConnectionError;
use edge_streams::remote_command::{
    BridgeError, Command, Outcome, OutcomeError, Running, TerminalSize, bridge,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::peer::{ALL, TERMINAL};
use crate::roles::{CARRIERS, Carrier, ask, cat, outcomes};
use crate::wire::{SOON, pattern, read_all, settle};

const LOST: &str = "the link to the device was lost";

/// What a bridge came to.
type Bridging = JoinHandle<Result<Outcome, BridgeError>>;

/// A client, where its command runs, and the bridge between.
async fn bridged(
    carriers: [Carrier; 2],
    options: edge_streams::remote_command::Options,
) -> (Running, Command, Bridging) {
    let (client, command) = carriers[0].open(options).await;
    let (running, process) = carriers[1].open(options).await;
    let bridging = tokio::spawn(async move { bridge(command, running, LOST).await });
    (client, process, bridging)
}

async fn ended(bridging: Bridging) -> Result<Outcome, BridgeError> {
    timeout(SOON, bridging).await.expect("it ends").unwrap()
}

/// Waits until no task is left but these.
async fn tasks(left: usize) {
    let metrics = tokio::runtime::Handle::current().metrics();
    let settled = async {
        while metrics.num_alive_tasks() > left {
            settle().await;
        }
    };
    let settled = timeout(SOON, settled).await;
    assert!(settled.is_ok(), "{} tasks are left", metrics.num_alive_tasks());
}

fn combinations() -> impl Iterator<Item = [Carrier; 2]> {
    CARRIERS
        .into_iter()
        .flat_map(|first| CARRIERS.map(|second| [first, second]))
}

#[tokio::test]
async fn a_bridge_passes_everything_on_and_back() {
    for carriers in combinations() {
        for outcome in outcomes() {
            let (mut client, process, bridging) = bridged(carriers, ALL).await;
            let running = {
                let outcome = outcome.clone();
                tokio::spawn(async move { cat(process, &outcome).await })
            };
            let input = pattern(10_000);
            let (output, errors, told) = timeout(SOON, ask(&mut client, &input)).await.unwrap();
            assert!(output == input, "{carriers:?}");
            assert_eq!(
                (errors.as_slice(), told.unwrap()),
                (&b"done\n"[..], outcome.clone())
            );
            let _ = client.verdict.close().await;
            assert_eq!(ended(bridging).await.unwrap(), outcome);
            let _ = running.await.unwrap();
            tasks(0).await;
        }
    }
}

#[tokio::test]
async fn a_bridge_passes_sizes_of_a_terminal() {
    let (mut client, mut process, bridging) = bridged([Carrier::Spdy, Carrier::Pipe(100)], TERMINAL).await;
    let (mut resize, mut sizes) = (client.resize.take().unwrap(), process.resizes.take().unwrap());
    for (width, height) in [(80, 24), (120, 40)] {
        let size = TerminalSize { width, height };
        resize.send(size).await.unwrap();
        assert_eq!(sizes.next().await, Some(size));
    }
    drop((client, process));
    assert!(ended(bridging).await.is_err());
}

/// kubectl, kubelet, agent and runtime: two bridges, and no word of the outcome changed.
#[tokio::test]
async fn bridges_in_a_row_tell_what_one_tells() {
    for outcome in outcomes() {
        let (mut client, kubelet, first) = bridged([Carrier::Spdy, Carrier::Pipe(1000)], ALL).await;
        let (running, process) = Carrier::Spdy.open(ALL).await;
        let second = tokio::spawn(async move { bridge(kubelet, running, "the runtime went").await });
        let serving = {
            let outcome = outcome.clone();
            tokio::spawn(async move { cat(process, &outcome).await })
        };
        let (output, _, told) = ask(&mut client, &pattern(100_000)).await;
        assert!(output == pattern(100_000));
        assert_eq!(told.unwrap(), outcome);
        drop(client);
        let _ = (ended(first).await, ended(second).await, serving.await);
        tasks(0).await;
    }
}

#[tokio::test]
async fn a_client_hears_that_the_link_was_lost_after_what_came_before() {
    for carriers in combinations() {
        let (mut client, mut process, bridging) = bridged(carriers, ALL).await;
        let mut stdout = client.stdout.take().unwrap();
        process
            .stdout
            .as_mut()
            .unwrap()
            .write_all(b"before")
            .await
            .unwrap();
        let mut before = [0; 6];
        stdout.read_exact(&mut before).await.unwrap();
        drop(process);
        let told = timeout(SOON, client.verdict.outcome()).await.unwrap().unwrap();
        assert_eq!(told, Outcome::Failed { message: LOST.into() }, "{carriers:?}");
        assert_eq!(read_all(&mut stdout).await, b"");
        drop(client);
        let error = ended(bridging).await.unwrap_err();
        assert!(
            matches!(
                error,
                BridgeError::Lost(OutcomeError::Missing(_)) | BridgeError::ClientGone(_)
            ),
            "{error:?}"
        );
        tasks(0).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_ends_where_the_command_runs() {
    for carriers in combinations() {
        let (mut client, process, bridging) = bridged(carriers, ALL).await;
        client.stdin.as_mut().unwrap().write_all(b"half").await.unwrap();
        let mut gone = process.ending.gone();
        drop(client);
        let error = ended(bridging).await.unwrap_err();
        assert!(
            matches!(error, BridgeError::ClientGone(ConnectionError::Vanished)),
            "{carriers:?}: {error:?}"
        );
        timeout(SOON, gone.wait()).await.unwrap();
        drop(process);
        tasks(0).await;
    }
}

/// All of the output comes before the outcome, however late the client reads it.
#[tokio::test]
async fn a_client_that_reads_late_gets_all_of_it() {
    for carriers in combinations() {
        let (mut client, mut process, bridging) = bridged(carriers, ALL).await;
        let sent = pattern(30_000);
        let serving = tokio::spawn(async move {
            let mut stdout = process.stdout.take().unwrap();
            stdout.write_all(&pattern(30_000)).await.unwrap();
            drop(stdout);
            process.ending.finish(&Outcome::NonZeroExit(9)).await
        });
        settle().await;
        let mut stdout = client.stdout.take().unwrap();
        assert!(read_all(&mut stdout).await == sent, "{carriers:?}");
        assert_eq!(client.verdict.outcome().await.unwrap(), Outcome::NonZeroExit(9));
        let _ = client.verdict.close().await;
        ended(bridging).await.unwrap();
        let _ = serving.await.unwrap();
    }
}

/// A process that ends while its client still writes.
#[tokio::test]
async fn input_that_nobody_wants_keeps_no_outcome_back() {
    for carriers in combinations() {
        let (mut client, mut process, bridging) = bridged(carriers, ALL).await;
        let mut stdin = client.stdin.take().unwrap();
        let writing = tokio::spawn(async move {
            // Until it hears of the end.
            while stdin.write_all(&[7; 1000]).await.is_ok() {}
        });
        drop(process.stdin.take());
        let serving = tokio::spawn(async move { process.ending.finish(&Outcome::NonZeroExit(2)).await });
        let told = timeout(SOON, client.verdict.outcome()).await.unwrap().unwrap();
        assert_eq!(told, Outcome::NonZeroExit(2), "{carriers:?}");
        drop(client);
        writing.await.unwrap();
        let _ = (ended(bridging).await, serving.await.unwrap());
        tasks(0).await;
    }
}
