//! Pods whose containers are processes of this machine, reached through pipes as a device's are.

use std::process::Stdio;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use edge_streams::Limits;
use edge_streams::remote_command::{Command, Options, Outcome, Running};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use serde_json::json;
use tokio::io::{AsyncWriteExt as _, DuplexStream, copy, duplex};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use virtual_kubelet_api::stats::{NodeStats, Summary};
use virtual_kubelet_api::{
    BytePipe, ContainerTarget, LogOptions, LogStream, Pod, PodStreams, PodTarget, StreamsError, User,
};

/// What a pipe to the process holds: little, so that whoever does not read is felt.
const PIPE: usize = 4096;

pub struct FakePods {
    pub pods: Mutex<Vec<Pod>>,
    /// Said by every call that reaches a container.
    pub refuses: Mutex<Option<StreamsError>>,
    pub asked: Mutex<Vec<Asked>>,
    /// Gives the pieces of followed logs.
    followed: Mutex<Option<mpsc::Receiver<Result<Bytes, StreamsError>>>>,
    piped: Mutex<Option<DuplexStream>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub what: String,
    pub who: User,
    pub logs: LogOptions,
}

pub fn pod(uid: &str) -> Pod {
    Arc::new(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "shop", "name": "web", "uid": uid},
        "spec": {"containers": [
            {"name": "main", "ports": [{"containerPort": 53, "protocol": "UDP"}]}, {"name": "shell", "tty": true, "stdin": true},
        ]},
    }))
}

impl FakePods {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            pods: Mutex::new(vec![pod("u")]),
            refuses: Mutex::default(),
            asked: Mutex::default(),
            followed: Mutex::default(),
            piped: Mutex::default(),
        })
    }

    /// The next followed log is what is sent here.
    pub fn follow(&self) -> mpsc::Sender<Result<Bytes, StreamsError>> {
        let (sender, receiver) = mpsc::channel(1);
        *self.followed.lock().unwrap() = Some(receiver);
        sender
    }

    /// The next forwarded connection ends here, whatever its port.
    pub fn pipe(&self) -> DuplexStream {
        let (near, far) = duplex(PIPE);
        *self.piped.lock().unwrap() = Some(far);
        near
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn note(&self, what: String, who: &User, logs: LogOptions) -> Result<(), StreamsError> {
        let who = who.clone();
        self.asked.lock().unwrap().push(Asked { what, who, logs });
        self.refuses.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn begin(
        &self,
        what: &str,
        command: Vec<String>,
        options: Options,
        who: &User,
    ) -> Result<Running, StreamsError> {
        self.note(
            format!("{what} {command:?} {options:?}"),
            who,
            LogOptions::default(),
        )?;
        let (near, far) = duplex(PIPE);
        let served = Command::over_pipe(far, options, Limits::default());
        tokio::spawn(run(served, command));
        Ok(Running::over_pipe(near, options, Limits::default()))
    }
}

/// Runs a process of this machine; `size` tells the first size of its terminal, `vanish` goes without a word.
async fn run(served: Command, command: Vec<String>) {
    let Command {
        stdin,
        stdout,
        stderr,
        resizes,
        ending,
    } = served;
    if command == ["vanish"] {
        return;
    }
    if command == ["size"] {
        let size = resizes.unwrap().next().await.unwrap();
        let line = format!("{}x{}\r\n", size.width, size.height);
        let mut stdout = stdout.unwrap();
        stdout.write_all(line.as_bytes()).await.unwrap();
        stdout.shutdown().await.unwrap();
        let _ = ending.finish(&Outcome::Success).await;
        return;
    }
    let piped = |wanted| if wanted { Stdio::piped() } else { Stdio::null() };
    let child = tokio::process::Command::new(&command[0])
        .args(&command[1..])
        .stdin(piped(stdin.is_some()))
        .stdout(piped(stdout.is_some()))
        .stderr(piped(stderr.is_some()))
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let message = format!("{}: {error}", command[0]);
            let _ = ending.finish(&Outcome::Failed { message }).await;
            return;
        }
    };
    let mut gone = ending.gone();
    let (mut input, mut output, mut errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let (Some(mut from), Some(mut to)) = (stdin, input.take()) {
            let _ = copy(&mut from, &mut to).await;
        }
        std::future::pending::<()>().await;
    };
    let drain = async {
        let out = async {
            if let (Some(from), Some(mut to)) = (output.as_mut(), stdout) {
                let _ = copy(from, &mut to).await;
            }
        };
        let err = async {
            if let (Some(from), Some(mut to)) = (errors.as_mut(), stderr) {
                let _ = copy(from, &mut to).await;
            }
        };
        tokio::join!(out, err);
    };
    tokio::select! {
        () = feed => {}
        () = drain => {}
        _ = gone.wait() => return,
    }
    let code = child.wait().await.unwrap().code();
    let _ = ending.finish(&Outcome::exited(code.unwrap_or(-1))).await;
}

impl PodStreams for FakePods {
    fn pod(&self, namespace: &str, name: &str) -> Option<Pod> {
        let pods = self.pods.lock().unwrap();
        let named = |pod: &&Pod| pod["metadata"]["namespace"] == namespace && pod["metadata"]["name"] == name;
        pods.iter().find(named).cloned()
    }

    fn pods(&self) -> Vec<Pod> {
        self.pods.lock().unwrap().clone()
    }

    fn running_pods(&self) -> BoxFuture<'_, Result<Vec<Pod>, StreamsError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn exec(
        &self,
        target: ContainerTarget,
        command: Vec<String>,
        options: Options,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Running, StreamsError>> {
        let what = format!("exec {}", target.container);
        async move { self.begin(&what, command, options, &who) }.boxed()
    }

    fn attach(
        &self,
        target: ContainerTarget,
        options: Options,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Running, StreamsError>> {
        let what = format!("attach {}", target.container);
        async move { self.begin(&what, vec!["cat".to_owned()], options, &who) }.boxed()
    }

    fn port_forward(
        &self,
        pod: PodTarget,
        port: u16,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<Box<dyn BytePipe>, StreamsError>> {
        async move {
            self.note(
                format!("forward {}:{port}", pod.name),
                &who,
                LogOptions::default(),
            )?;
            if let Some(pipe) = self.piped.lock().unwrap().take() {
                return Ok(Box::new(pipe) as Box<dyn BytePipe>);
            }
            let io = TcpStream::connect(("127.0.0.1", port)).await;
            let io = io.map_err(|error| StreamsError::Failed {
                message: format!("dial tcp: {error}"),
            })?;
            Ok(Box::new(io) as Box<dyn BytePipe>)
        }
        .boxed()
    }

    fn logs(
        &self,
        target: ContainerTarget,
        options: LogOptions,
        who: Arc<User>,
    ) -> BoxFuture<'_, Result<LogStream, StreamsError>> {
        let follow = options.follow;
        let noted = self.note(format!("logs {}", target.container), &who, options);
        async move {
            noted?;
            match self.followed.lock().unwrap().take() {
                Some(pieces) if follow => {
                    let next = |mut pieces: mpsc::Receiver<_>| async { Some((pieces.recv().await?, pieces)) };
                    Ok(stream::unfold(pieces, next).boxed())
                }
                _ => Ok(stream::iter([Ok(Bytes::from("one\n")), Ok(Bytes::from("two\n"))]).boxed()),
            }
        }
        .boxed()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Arc<Summary>, StreamsError>> {
        let node = NodeStats {
            node_name: "edge".into(),
            start_time: "2026-11-22T18:00:00Z".parse().unwrap(),
            cpu: None,
            memory: None,
            network: None,
            fs: None,
            runtime: None,
            rlimit: None,
            swap: None,
            machine: None,
        };
        let pods = Vec::new();
        async move { Ok(Arc::new(Summary { node, pods })) }.boxed()
    }

    fn lost(&self) -> &'static str {
        "the link to the device was lost"
    }
}
