//! Streams that someone asks for: which order is this session's, and what of the runtime it is about. What is wrong with the order itself is only
//! reported; what cannot be done is told to whoever asked, in the kubelet's words.

use std::collections::BTreeSet;

use edge_protocol::sign::Envelope;
use edge_protocol::v1::stream::MAX_COMMAND;
use edge_protocol::v1::{
    ContainerState, ContainerStatus, LogQuery, Manifest, Operator, Reason, Stdio, StreamOrder, StreamRefusal,
    StreamRequest, Ticket, WorkloadStatus, ability,
};
use edge_protocol::{Lane, PodUid};

use crate::agent::{Agent, Reach};
use crate::io::{Effect, Note};
use crate::step::{ObservedContainer, ObservedState};
use crate::workload::{Pod, Workload};

/// Commands of one session whose tickets are remembered: some 2 MiB. One more begins another session.
const MAX_COMMANDS: usize = 1 << 16;

/// One stream to open. Nothing of it has been asked of the device's policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamTask {
    pub ticket: Ticket,
    pub operator: Operator,
    pub pod: StreamPod,
    pub work: StreamWork,
}

/// Whose stream it is. Names are empty where no manifest tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPod {
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
}

/// What a stream does, with what the runtime calls it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamWork {
    Exec {
        container: String,
        container_id: String,
        /// At most [`MAX_COMMAND`] bytes, and not empty.
        command: Vec<String>,
        stdio: Stdio,
    },
    Attach {
        container: String,
        container_id: String,
        stdio: Stdio,
        /// Whether the container has a terminal, whatever is asked: that is fixed when it is made (`GetAttach` of `pkg/kubelet/kubelet_pods.go`).
        tty: bool,
    },
    PortForward {
        sandbox_id: String,
        port: u16,
    },
    Logs {
        container: String,
        /// The instance whose log is asked for, which the runtime may have no more.
        attempt: u32,
        query: LogQuery,
    },
}

/// A stream that cannot be, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRefused {
    pub ticket: Ticket,
    pub operator: Operator,
    pub request: StreamRequest,
    pub why: StreamRefusal,
    pub message: String,
}

type Verdict<T> = Result<T, (StreamRefusal, String)>;

/// The commands that were ordered in the present session.
///
/// The hub gives a ticket out once, but a command has begun by then: an order that comes twice, doubled on the way or repeated by a broker, must not
/// run it twice. Other streams do nothing by themselves.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    /// By the first 64 bits of their tickets, which are random.
    seen: BTreeSet<u64>,
}

enum Turn {
    First,
    Again,
    /// No more of them can be told apart.
    Full,
}

impl Commands {
    /// Another session: no order of the one before is taken any more.
    pub(crate) fn begin(&mut self) {
        self.seen.clear();
    }

    fn turn(&mut self, ticket: &Ticket) -> Turn {
        let text = String::from(ticket.clone());
        let bits = text.bytes().take(16).fold(0_u64, |bits, digit| {
            let digit = char::from(digit).to_digit(16).unwrap_or(0);
            bits << 4 | u64::from(digit)
        });
        if self.seen.contains(&bits) {
            Turn::Again
        } else if self.seen.len() >= MAX_COMMANDS {
            Turn::Full
        } else {
            self.seen.insert(bits);
            Turn::First
        }
    }
}

impl Agent {
    /// An order came. One that is not for this session does nothing, and is not answered.
    pub(crate) fn order(&mut self, lane: Lane, envelope: &Envelope) {
        if lane != Lane::Command {
            return self.refuse("a stream was ordered on another lane than that of commands");
        }
        if !self.config.features.iter().any(|word| word == ability::STREAMS) {
            return self.refuse("a stream was ordered, and this agent has none");
        }
        let Some(binding) = self.session.binding() else {
            return self.refuse("a stream was ordered before a session");
        };
        let order = match self.config.keys.open_stream_order(envelope, binding) {
            Ok(order) => order,
            Err(refusal) => return self.refuse(&refusal.to_string()),
        };
        if matches!(
            order.request,
            StreamRequest::Exec { .. } | StreamRequest::Attach { .. }
        ) {
            match self.commands.turn(&order.ticket) {
                Turn::First => {}
                Turn::Again => return self.refuse("a command was ordered again"),
                Turn::Full => return self.redial("no more commands of one session can be told apart"),
            }
        }
        self.obey(order);
    }

    fn obey(&mut self, order: StreamOrder) {
        let StreamOrder {
            ticket,
            operator,
            request,
            ..
        } = order;
        match self.stream(&request) {
            Ok((pod, work)) => {
                self.note(Note::StreamOrdered { uid: pod.uid.clone() });
                self.effects.push(Effect::OpenStream(Box::new(StreamTask {
                    ticket,
                    operator,
                    pod,
                    work,
                })));
            }
            Err((why, message)) => {
                self.note(Note::StreamRefused { why });
                self.effects.push(Effect::RefuseStream(Box::new(StreamRefused {
                    ticket,
                    operator,
                    request,
                    why,
                    message: edge_protocol::text::sanitise(&message),
                })));
            }
        }
    }

    fn stream(&self, request: &StreamRequest) -> Verdict<(StreamPod, StreamWork)> {
        let (subject, work) = match request {
            StreamRequest::Exec {
                uid,
                container,
                command,
                stdio,
            } => {
                let subject = self.subject(uid)?;
                check_command(command)?;
                let work = StreamWork::Exec {
                    container: container.clone(),
                    container_id: subject.running(container, *stdio)?,
                    command: command.clone(),
                    stdio: *stdio,
                };
                (subject, work)
            }
            StreamRequest::Attach {
                uid,
                container,
                stdio,
            } => {
                let subject = self.subject(uid)?;
                let work = StreamWork::Attach {
                    container: container.clone(),
                    container_id: subject.running(container, *stdio)?,
                    stdio: *stdio,
                    tty: subject.has_terminal(container).unwrap_or(stdio.tty),
                };
                (subject, work)
            }
            StreamRequest::PortForward { uid, port } => {
                let subject = self.subject(uid)?;
                let sandbox_id = subject.sandbox(*port)?;
                (
                    subject,
                    StreamWork::PortForward {
                        sandbox_id,
                        port: *port,
                    },
                )
            }
            StreamRequest::Logs {
                uid,
                container,
                query,
            } => {
                let subject = self.subject(uid)?;
                let work = subject.logs(container, query)?;
                (subject, work)
            }
            StreamRequest::Unknown => {
                let message = "the device's agent does not know this kind of stream".to_owned();
                return Err((StreamRefusal::Unsupported, message));
            }
        };
        Ok((subject.name(), work))
    }

    fn subject<'a>(&'a self, uid: &'a PodUid) -> Verdict<Subject<'a>> {
        if self.reach == Reach::Never {
            let message = "the device has not seen its container runtime yet".to_owned();
            return Err((StreamRefusal::Failed, message));
        }
        // As `getExec` of `pkg/kubelet/server/server.go`.
        let unknown = || (StreamRefusal::NotFound, "pod does not exist".to_owned());
        Ok(Subject {
            uid,
            workload: self.roster.get(uid).ok_or_else(unknown)?,
            pod: self.roster.pod(uid),
            status: self.reports.status(uid),
        })
    }
}

/// The workload that a stream is about.
struct Subject<'a> {
    uid: &'a PodUid,
    workload: &'a Workload,
    pod: Option<&'a Pod>,
    /// As it was last said.
    status: Option<&'a WorkloadStatus>,
}

impl Subject<'_> {
    fn manifest(&self) -> Option<&Manifest> {
        self.workload
            .manifest
            .as_deref()
            .or(self.workload.asked.as_deref())
    }

    fn name(&self) -> StreamPod {
        let manifest = self.manifest();
        StreamPod {
            uid: self.uid.clone(),
            namespace: manifest.map_or(String::new(), |manifest| manifest.namespace.clone()),
            name: manifest.map_or(String::new(), |manifest| manifest.name.clone()),
        }
    }

    /// As the API server says it of what a pod does not have (`LogLocation` of `pkg/registry/core/pod/strategy.go`).
    fn check_container(&self, name: &str) -> Verdict<()> {
        let known = self.manifest().is_none_or(|manifest| {
            let mut all = manifest.workload.every_container();
            all.any(|spec| spec.name == name)
        });
        let there = || self.pod.is_some_and(|pod| pod.current(name).is_some());
        if known || there() {
            return Ok(());
        }
        let message = format!("container {name} is not valid for pod {}", self.name().name);
        Err((StreamRefusal::NotFound, message))
    }

    /// Absent where no manifest tells.
    fn has_terminal(&self, name: &str) -> Option<bool> {
        let mut all = self.manifest()?.workload.every_container();
        all.find(|spec| spec.name == name).map(|spec| spec.terminal.tty)
    }

    fn instance(&self, name: &str) -> Option<&ObservedContainer> {
        self.pod.and_then(|pod| pod.current(name))
    }

    /// The id of the instance that runs, of an initial container too (`GetExec` of `pkg/kubelet/kubelet_pods.go`).
    fn running(&self, name: &str, stdio: Stdio) -> Verdict<String> {
        if !(stdio.stdin || stdio.stdout || stdio.stderr && !stdio.tty) {
            let message = "you must specify at least 1 of stdin, stdout, stderr".to_owned();
            return Err((StreamRefusal::Failed, message));
        }
        self.check_container(name)?;
        let runs = |instance: &&ObservedContainer| matches!(instance.state, ObservedState::Running { .. });
        let id = self
            .instance(name)
            .filter(runs)
            .map(|instance| instance.id.clone());
        id.ok_or_else(|| {
            (
                StreamRefusal::NotRunning,
                format!("container not found ({name:?})"),
            )
        })
    }

    /// The sandbox whose network the port is in (`GetPortForward` of the same file).
    fn sandbox(&self, port: u16) -> Verdict<String> {
        if port == 0 {
            let message = "port 0 must be > 0".to_owned();
            return Err((StreamRefusal::Failed, message));
        }
        let sandbox = self.pod.and_then(Pod::sandbox);
        sandbox.map(|sandbox| sandbox.id.clone()).ok_or_else(|| {
            let StreamPod { namespace, name, .. } = self.name();
            let message = format!("pod not found (\"{name}_{namespace}\")");
            (StreamRefusal::NotRunning, message)
        })
    }

    /// The instance whose log is meant (`validateContainerLogStatus` of the same file): the one before the present where that is asked for; else the
    /// one that runs or ran last.
    fn logs(&self, name: &str, query: &LogQuery) -> Verdict<StreamWork> {
        self.check_container(name)?;
        let pod = self.name().name;
        let mut instances = self.pod.map_or(Vec::new(), |pod| pod.instances(name));
        // One that has only been made has written nothing.
        instances.retain(|instance| instance.state != ObservedState::Created);
        let last_started = self.workload.record.attempts.get(name).copied();
        let newest = instances.first().map(|newest| newest.attempt).or(last_started);
        let attempt = if query.previous {
            newest.and_then(|newest| newest.checked_sub(1)).ok_or_else(|| {
                let message = format!("previous terminated container {name:?} in pod {pod:?} not found");
                (StreamRefusal::NotFound, message)
            })?
        } else {
            newest.ok_or_else(|| (StreamRefusal::NotRunning, self.waits(name, &pod)))?
        };
        Ok(StreamWork::Logs {
            container: name.to_owned(),
            attempt,
            query: query.clone(),
        })
    }

    fn waits(&self, name: &str, pod: &str) -> String {
        let statuses = self.status.into_iter();
        let mut all = statuses.flat_map(|status| status.init_containers.iter().chain(&status.containers));
        let state = all.find(|status: &&ContainerStatus| status.name == name);
        match state.map(|status| &status.state) {
            Some(ContainerState::Waiting { reason, .. }) => {
                let what = match reason {
                    Reason::ErrImagePull => "image can't be pulled",
                    Reason::ImagePullBackOff => "trying and failing to pull image",
                    other => other.as_str(),
                };
                format!("container {name:?} in pod {pod:?} is waiting to start: {what}")
            }
            Some(_) => format!("container {name:?} in pod {pod:?} is terminated"),
            None => format!("container {name:?} in pod {pod:?} is not available"),
        }
    }
}

fn check_command(command: &[String]) -> Verdict<()> {
    let bytes: usize = command.iter().map(|argument| argument.len() + 1).sum();
    let message = match command {
        [] => "you must specify at least one command for the container",
        _ if bytes > MAX_COMMAND => "the command is longer than a device takes",
        _ => return Ok(()),
    };
    Err((StreamRefusal::Failed, message.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_apart_within_a_session_and_memory_is_bounded() {
        let ticket = |n: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Ticket::from_bytes(bytes)
        };
        let mut commands = Commands::default();
        for n in 0..MAX_COMMANDS {
            assert!(matches!(commands.turn(&ticket(n)), Turn::First));
        }
        assert!(matches!(commands.turn(&ticket(0)), Turn::Again));
        assert!(matches!(commands.turn(&ticket(MAX_COMMANDS)), Turn::Full));
        commands.begin();
        assert!(matches!(commands.turn(&ticket(MAX_COMMANDS)), Turn::First));
    }
}
