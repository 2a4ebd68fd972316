//! `outrigger-agent`: reads the command line, sets up logging and signals, and runs the agent.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use edge_agent::options::{self, Options, ProxyVariables};
use edge_agent::process;
use edge_agent::streams::desk::{Shown, State};
use edge_agent::streams::person;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  Check a configuration before a restart:
    outrigger-agent check-config --config /etc/outrigger/agent.toml

  Enrol by hand, with the token that `outrigger enrolment-token create` printed:
    outrigger-agent enrol --config /etc/outrigger/agent.toml --token-file ./token

  Run, as the systemd unit does:
    outrigger-agent run --config /etc/outrigger/agent.toml

  See who looks into containers from elsewhere, and end that at once:
    outrigger-agent streams --config /etc/outrigger/agent.toml ls
    outrigger-agent streams --config /etc/outrigger/agent.toml off";

/// Runs a device's workloads and reports what became of them.
#[derive(Debug, Parser)]
#[command(name = "outrigger-agent", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,
    /// Which log lines, such as `info` or `edge_agent=debug`.
    #[arg(long, default_value = "info", global = true)]
    log: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM. Workloads go on when the agent ends; a second signal ends it at once.
    Run {
        #[arg(long)]
        config: PathBuf,
    },
    /// Enrol this device and exit. `run` does it by itself when `enrolment.token_file` is set.
    Enrol {
        #[arg(long)]
        config: PathBuf,
        /// A file with the token; overrides the configuration.
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    /// Check a configuration file; unknown keys are errors here.
    CheckConfig {
        #[arg(long)]
        config: PathBuf,
    },
    /// Commands, logs and connections that someone elsewhere has asked for.
    Streams {
        #[arg(long)]
        config: PathBuf,
        #[command(subcommand)]
        verb: StreamsVerb,
    },
    /// Print the version.
    Version,
}

#[derive(Debug, Subcommand)]
enum StreamsVerb {
    /// Show those that are open, and those that ask to be allowed (`ask-locally` of the policy).
    Ls,
    /// Agree to one that asks.
    Allow { id: String },
    /// Decline one that asks.
    Deny { id: String },
    /// Cut all that are open, and open none until they are switched on again.
    Off,
    /// Let streams be opened again.
    On,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outrigger-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    start_logging(&cli)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before main"))?;
    match cli.command {
        Command::Run { config } => {
            let options = load(&config)?;
            block_on(async {
                let token = process::stop_on_signal()?;
                let bound = tokio::select! {
                    bound = edge_agent::build(options) => bound?,
                    // It waits for the hub or the runtime; nothing runs yet that would have to be ended in order.
                    () = token.cancelled() => return Ok(()),
                };
                Ok(bound.run(token).await?)
            })
        }
        Command::Enrol { config, token_file } => {
            let mut options = load(&config)?;
            options.token_file = token_file.or(options.token_file);
            block_on(async {
                let identity = edge_agent::ensure_identity(&options).await?;
                let answer = &identity.answer;
                println!("enrolled as {}", answer.device);
                println!("sealing key {}", answer.sealing_key.fingerprint());
                Ok(())
            })
        }
        Command::CheckConfig { config } => {
            let loaded = options::load(&config, &proxy_variables())?;
            anyhow::ensure!(
                loaded.unknown_keys.is_empty(),
                "{}: unknown keys: {}",
                config.display(),
                loaded.unknown_keys.join(", ")
            );
            println!("{} is valid", config.display());
            Ok(())
        }
        Command::Streams { config, verb } => streams(&load(&config)?, verb),
        Command::Version => {
            println!("outrigger-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

fn streams(options: &Options, verb: StreamsVerb) -> anyhow::Result<()> {
    match verb {
        StreamsVerb::Ls => block_on(async {
            for row in person::list(options).await? {
                println!("{}", shown(&row));
            }
            Ok(())
        }),
        StreamsVerb::Allow { id } => block_on(async { Ok(person::allow(options, &id).await?) }),
        StreamsVerb::Deny { id } => block_on(async { Ok(person::deny(options, &id).await?) }),
        StreamsVerb::Off => {
            person::switch_off(options)?;
            println!("streams are off; what is open is cut within a second");
            Ok(())
        }
        StreamsVerb::On => {
            person::switch_on(options)?;
            println!("streams are on");
            Ok(())
        }
    }
}

fn shown(row: &Shown) -> String {
    let state = match row.state {
        State::Opening => "opening",
        State::Asks => "ASKS",
        State::Open => "open",
    };
    let about = &row.stream;
    let what = match (&about.container, about.port) {
        (Some(container), _) => container.clone(),
        (None, Some(port)) => port.to_string(),
        (None, None) => String::new(),
    };
    let who = about.user.as_ref().unwrap_or(&about.principal);
    format!(
        "{}  {state}  {}s  {}  {}/{}  {what}  {who}  {}",
        about.id,
        row.since_s,
        about.kind,
        about.namespace,
        about.pod,
        about.command.join(" ")
    )
}

/// Unknown keys only warn, so that an agent that was downgraded still starts.
fn load(config: &std::path::Path) -> anyhow::Result<Options> {
    let loaded = options::load(config, &proxy_variables())?;
    for key in loaded.unknown_keys {
        tracing::warn!(key, "the configuration has a key that this version does not know");
    }
    Ok(loaded.options)
}

fn proxy_variables() -> ProxyVariables {
    ProxyVariables::read(|name| std::env::var(name).ok())
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?
        .block_on(future)
}

fn start_logging(cli: &Cli) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&cli.log).with_context(|| format!("--log {:?}", cli.log))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match cli.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
