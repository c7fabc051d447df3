//! The command line: clap types only; [`crate::cmd`] does the work.

mod values;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::default_of;
use crate::config::starter::StarterQuestion;
use crate::plan::endpoint::Endpoint;

/// Package version and, where it was built from a checkout, git revision; `build.rs` knows them.
const VERSION: &str = env!("DUEL_VERSION");

/// Where `duel target` listens unless told otherwise.
pub(crate) const LISTEN: &str = "127.0.0.1:8080";

/// What every command has in common.
const AFTER_HELP: &str = "\
Exit codes, the first that applies:
  129, 130, 143  interrupted; partial results are kept
  2              wrong usage or config, or the runs cannot be compared
  1              a trial failed that no expect_failed names, or nothing completed
  4              not reliable: a hard gate failed, or an SLO cannot be judged
  3              an SLO was missed, or a regression was found
  5              compare --strict cannot tell
  0              none of these

Load goes to this machine only, unless [target] allow or --allow names another address. \
NO_COLOR is honoured.";

/// The same HTTP requests through threads and through tasks, and what each cost.
#[derive(Debug, Parser)]
#[command(name = "duel", version = VERSION, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What may not begin with a hyphen, so that a path that was forgotten is not the next flag.
const PATHS: [&str; 3] = ["DIR", "FILE", "PATH"];

impl Cli {
    /// The arguments of this process.
    pub fn read() -> Result<Cli, clap::Error> {
        let mut command = Cli::declared();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// Every command and argument. A value may begin with a hyphen: a negative number is refused by
    /// who reads it, in the words for every other bad value.
    pub fn declared() -> clap::Command {
        let signed = |argument: clap::Arg| {
            let is_path = |name: &clap::builder::Str| PATHS.contains(&name.as_str());
            let names = argument.get_value_names().unwrap_or_default();
            let takes = argument.get_action().takes_values() && !argument.is_positional();
            let signed = takes && !names.iter().any(is_path);
            argument.allow_hyphen_values(signed)
        };
        Cli::command().mut_subcommands(|command| command.mut_args(signed))
    }
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "parsed once per process")]
pub enum Command {
    /// Run a whole sweep: progress, a table at the end, a run directory
    Run(RunArgs),
    /// Load one URL without a config file
    Try(TryArgs),
    /// Show the cells of a sweep, their order, the time they take and the limits they meet
    Plan(PlanArgs),
    /// Show the results of a run directory again
    Report(ReportArgs),
    /// Compare two runs cell by cell, or the targets of one; exit code 3 if the second is worse
    Compare(CompareArgs),
    /// Plan hosts from a run: lanes, memory, CPU, money and the limit reached first
    Capacity(CapacityArgs),
    /// Add the shards of one run together, losslessly, into a fresh run directory
    Merge(MergeArgs),
    /// Prove that every engine and codec sends the same bytes; exit code 1 if they do not
    Verify(VerifyArgs),
    /// Run the embedded target alone
    Target(TargetArgs),
    /// Name every limit of this machine that lanes can meet, and which is reached first
    Limits(LimitsArgs),
    /// Run one trial by frames on standard input and output (for the driver)
    Worker,
    /// Print a commented config to begin with, made for a question
    Init {
        /// What it is to answer
        #[arg(value_enum, default_value_t = StarterQuestion::ThreadsOrTasks)]
        question: StarterQuestion,
    },
    /// Print every key of a config: what it is for, type, default and an example
    Config {
        /// Print Markdown, as docs/config.md has it
        #[arg(long)]
        markdown: bool,
    },
    /// Print the man page, or write one for every command and duel-config(5)
    Man {
        /// Write duel.1, duel-run.1 and so on into this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// A config, and what of it a command lays over it.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The sweep, a TOML file
    pub config: PathBuf,
    /// Override a key of the config, such as plan.requests=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// What may be loaded beside this machine.
#[derive(Debug, Args)]
pub struct AllowArgs {
    /// Allow load to this non-loopback address, by default at most 10,000 requests/s over 1,000
    /// connections; 'HOST:PORT rate=50k connections=5k' raises that
    #[arg(long, value_name = "HOST:PORT", value_parser = values::allowed)]
    pub allow: Vec<String>,
}

/// What every command takes that runs a sweep.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Serve Prometheus metrics while it runs: a port of the loopback, or IP:PORT
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<String>,
    /// Go on although every request fails; otherwise such a trial ends after 3 s, and so does the run
    /// if the target is your own
    #[arg(long)]
    pub keep_going: bool,
    #[command(flatten)]
    pub allowed: AllowArgs,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Run directory; must be empty or not exist [default: runs/STAMP-NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on where the run directory given with --out stopped
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Run part k of n: requests k, k+n, k+2n, …; auto takes both from Slurm, Kubernetes or Open MPI
    #[arg(long, value_name = "K/N")]
    pub shard: Option<String>,
    /// Where the shards of a run meet, so that every trial starts at one instant: a fresh directory
    /// that all of them see
    #[arg(long, value_name = "DIR", conflicts_with = "start_at")]
    pub rendezvous: Option<PathBuf>,
    /// How long a shard waits for the others at each step
    #[arg(long, value_name = "TIME", requires = "rendezvous", value_parser = values::time)]
    #[arg(default_value = "2m")]
    pub rendezvous_wait: u64,
    /// Delay between agreeing on a start time and starting: at least the time a new file needs to become visible on all machines
    #[arg(long, value_name = "TIME", requires = "rendezvous", value_parser = values::time)]
    #[arg(default_value = "250ms")]
    pub start_lead: u64,
    /// Start the first trial then: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "T")]
    pub start_at: Option<String>,
    /// From one trial's start to the next [default: warm-up + window + timeout + 5s]
    #[arg(long, value_name = "TIME", requires = "start_at", value_parser = values::time)]
    pub start_every: Option<u64>,
    /// With --resume: go on although config, binary or machine changed, and flag the rows. With
    /// --shard: divide a closed loop by duration, although the total load then depends on how fast the shards are
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub sweep: SweepArgs,
}

#[derive(Debug, Args)]
pub struct TryArgs {
    /// Where to send requests: [http://]HOST:PORT/PATH, https://…, or unix:/SOCKET:/PATH
    pub url: String,
    /// Connections
    #[arg(short = 'c', long, alias = "connections", default_value = default_of("sweep.lanes"), value_name = "COUNT")]
    pub lanes: String,
    /// Requests in total
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "duration")]
    pub requests: Option<String>,
    /// Measured time of each engine, shared by ten interleaved trials so that figures have intervals;
    /// a number alone counts seconds [default: 10s]
    #[arg(short = 'd', long, short_alias = 'z', value_name = "TIME")]
    pub duration: Option<String>,
    /// Offered load in requests per second, in total; without it lanes send as fast as they can
    #[arg(short = 'R', long, value_name = "RATE")]
    pub rate: Option<String>,
    /// Arrivals of an offered load: constant or poisson
    #[arg(long, value_name = "LAW", requires = "rate")]
    pub arrivals: Option<String>,
    /// Method
    #[arg(short = 'm', long, short_alias = 'X', alias = "request", default_value = default_of("plan.request.method"))]
    pub method: String,
    /// Header, 'Name: value'; a value $NAME comes from the environment
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Body, or @FILE to read it from a file
    #[arg(short = 'b', long, value_name = "BODY")]
    pub body: Option<String>,
    /// Read the body from a file, as -b @FILE
    #[arg(short = 'D', long, value_name = "FILE", conflicts_with = "body")]
    pub body_file: Option<String>,
    /// Connect to this Unix-domain socket instead of the URL's host
    #[arg(long, value_name = "PATH")]
    pub unix_socket: Option<String>,
    /// Trust these certificate authorities, in PEM, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// Show this certificate, in PEM, where the target asks for one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<String>,
    /// Private key of --cert, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<String>,
    /// Accept any certificate of an https target
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// Make a new connection for each request
    #[arg(long)]
    pub disable_keepalive: bool,
    /// Longest time from a request's first byte to the last byte of its response
    #[arg(long, default_value = default_of("plan.timeout"), value_name = "TIME")]
    pub timeout: String,
    /// Warm-up before the window [default: none; one and a half responses of a slow target]
    #[arg(long, value_name = "TIME")]
    pub warmup: Option<String>,
    /// Engines, separated by commas
    #[arg(long, default_value = "threads,tokio", value_delimiter = ',')]
    pub engines: Vec<String>,
    /// Codecs, separated by commas
    #[arg(long, default_value = default_of("sweep.codecs"), value_delimiter = ',')]
    pub codecs: Vec<String>,
    /// CPUs of the workers
    #[arg(long, default_value = default_of("sweep.cpus"), value_name = "COUNT")]
    pub cpus: String,
    /// Worker processes
    #[arg(long, default_value = default_of("sweep.processes"), value_name = "COUNT")]
    pub processes: String,
    /// Stack of each lane's thread [default: 64KiB, or 128KiB for https]
    #[arg(long, value_name = "SIZE")]
    pub stack_size: Option<String>,
    /// Timer of an offered load: precise or native
    #[arg(long, default_value = default_of("plan.pacer"), value_name = "TIMER")]
    pub pacer: String,
    /// Fixed number of trials of each engine, each as long as -d or -n says; 1 is one long trial
    /// [default: 10 of a tenth of -d; 1 with -n, or with -d under 2s]
    #[arg(long, value_name = "COUNT")]
    pub trials: Option<String>,
    /// Go on until the ratios of CPU per request and memory are known within this, such as 5%
    #[arg(long, value_name = "SHARE")]
    pub precision: Option<String>,
    /// With --precision: longest time for all of it [default: 3m]
    #[arg(long, value_name = "TIME")]
    pub budget: Option<String>,
    /// Seed of arrivals and order
    #[arg(long, default_value = default_of("plan.seed"), value_name = "COUNT")]
    pub seed: String,
    /// Set any key of a config, such as sweep.uring_batch=16
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print one TrialRecord per line instead of a table
    #[arg(long)]
    pub json: bool,
    /// Keep a run directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub sweep: SweepArgs,
    /// Accepted for wrk's sake: percentiles are always printed
    #[arg(long, hide = true)]
    pub latency: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Requests of each run, at most those of the plan [default: those, or 10k of one by time]
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = values::count_above_zero)]
    pub requests: Option<u64>,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print the Job frame of the trial at this position, from 0, for `duel worker`
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub job: Option<u64>,
    #[command(flatten)]
    pub allowed: AllowArgs,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The run directory
    #[arg(required_unless_present = "schema")]
    pub dir: Option<PathBuf>,
    /// Print one TrialRecord per line instead of a table
    #[arg(long)]
    pub json: bool,
    /// Print the JSON Schema of a TrialRecord
    #[arg(long)]
    pub schema: bool,
    /// Requests per second that the report's section on capacity plans for; several, such as
    /// 10k,20k, make a what-if table [default: the highest that was measured]
    #[arg(long, value_name = "RATE", value_parser = values::rate, value_delimiter = ',')]
    pub rate: Vec<f64>,
    #[command(flatten)]
    pub hosts: HostsArgs,
    /// Write the files only (for the driver)
    #[arg(long, hide = true)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct CapacityArgs {
    /// The run directory
    pub dir: PathBuf,
    /// Requests per second to plan for, in total; several, such as 10k,20k, make a what-if table
    #[arg(long, value_name = "RATE", value_parser = values::rate, value_delimiter = ',')]
    #[arg(required = true)]
    pub rate: Vec<f64>,
    #[command(flatten)]
    pub hosts: HostsArgs,
    /// Print JSON
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print the what-if table for a spreadsheet
    #[arg(long, group = "form")]
    pub csv: bool,
    /// Print Markdown
    #[arg(long, group = "form")]
    pub markdown: bool,
    /// Print the config of a run that would measure what is missing
    #[arg(long, group = "form")]
    pub suggest: bool,
    /// Run the load that is forecast (twice the lanes and rate; with a search, two workers and
    /// targets) in DIR/proof, and print forecast beside measurement
    #[arg(long, conflicts_with = "suggest")]
    pub prove: bool,
}

/// What hosts are like, and what is asked of them.
#[derive(Debug, Clone, PartialEq, Args)]
pub struct HostsArgs {
    /// Count only measured cells whose 99th percentile is at most this [default: the run's slo.p99]
    #[arg(long, value_name = "TIME", value_parser = values::time_above_zero)]
    pub p99: Option<u64>,
    /// Plan for the bound of this class of requests, which the run's [[plan.request]] name [default:
    /// all requests, and a row for each class]
    #[arg(long, value_name = "NAME")]
    pub class: Option<String>,
    /// Share of requests that must be answered, whose error budget is told [default: the run's
    /// slo.error_rate]
    #[arg(long, value_name = "SHARE", value_parser = values::below_all)]
    pub availability: Option<f64>,
    /// Mean time of a request in the system [default: as measured]
    #[arg(long, value_name = "TIME", value_parser = values::time_above_zero)]
    pub latency: Option<u64>,
    /// Connections that clients hold to a service under test, in total [default: the fewest that carry
    /// the rate]
    #[arg(long, value_name = "COUNT", value_parser = values::count)]
    pub connections: Option<u64>,
    /// Types of hosts, with prices: a TOML file such as configs/hosts.toml
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memory", "cpus"])]
    pub hosts: Option<PathBuf>,
    /// Memory of a host [default: that of the measured machine]
    #[arg(long, value_name = "SIZE", value_parser = values::size_above_zero)]
    pub memory: Option<u64>,
    /// CPUs of a host [default: those of the measured machine]
    #[arg(long, value_name = "COUNT", value_parser = values::cpus)]
    pub cpus: Option<u32>,
    /// Share of a host's CPUs that is planned for; several make a what-if table
    #[arg(long, value_name = "SHARE", default_value = "70%", value_parser = values::part)]
    #[arg(value_delimiter = ',')]
    pub cpu_target: Vec<f64>,
    /// Share of a host's memory that is planned for
    #[arg(long, value_name = "SHARE", default_value = "80%", value_parser = values::part)]
    pub memory_target: f64,
    /// Growth per year, compounded, or per month, such as 2%/month; several make a what-if table
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = values::growth)]
    #[arg(value_delimiter = ',')]
    pub growth: Vec<f64>,
    /// Months to plan ahead
    #[arg(long, value_name = "COUNT", default_value = "12", value_parser = values::months)]
    pub months: f64,
    /// Hosts that may fail
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = values::spare)]
    pub spare: u32,
}

impl HostsArgs {
    /// Whether anything but a default was asked.
    pub(crate) fn is_asked(&self) -> bool {
        *self != Self::unasked()
    }

    /// As they are where no flag is given.
    pub(crate) fn unasked() -> Self {
        let parsed = Self::augment_args(clap::Command::new("")).get_matches_from([""]);
        Self::from_arg_matches(&parsed).expect("none of them is required")
    }
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The run to compare with and the run that is judged; with --with, all runs to compare with; one
    /// alone, where it compared several targets
    #[arg(value_name = "DIR", required = true)]
    pub runs: Vec<PathBuf>,
    /// The runs that are judged, where there are several on each side
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub with: Vec<PathBuf>,
    /// Smallest difference that counts, such as 5% or 0.02
    #[arg(long, value_name = "SHARE", default_value = default_of("sweep.equal_within"))]
    #[arg(value_parser = values::share)]
    pub min_effect: f64,
    /// Exit with code 5 if the data cannot tell whether a figure got worse
    #[arg(long)]
    pub strict: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Print a table for a pull request
    #[arg(long)]
    pub markdown: bool,
}

#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The run directories of all shards, in any order
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// Run directory to make; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Where to listen: an IP address and a port, or unix:/PATH
    #[arg(long, default_value = LISTEN, value_name = "ADDR")]
    pub listen: Endpoint,
    /// Service time: a time such as 5ms, or a table such as '{law="exponential",mean="5ms"}'
    #[arg(long, default_value = default_of("target.service_time"), value_name = "LAW")]
    pub service_time: String,
    /// Requests served at once; 0 = no limit
    #[arg(long, default_value = default_of("target.servers"), value_name = "COUNT")]
    pub servers: String,
    /// Length of each response body
    #[arg(long, default_value = default_of("target.body"), value_name = "SIZE")]
    pub body: String,
    /// Share of requests answered with status 500
    #[arg(long, default_value = default_of("target.faults.error_rate"), value_name = "SHARE")]
    pub error_rate: String,
    /// Seed of service times and faults
    #[arg(long, default_value = default_of("plan.seed"), value_name = "COUNT")]
    pub seed: String,
    /// Speak JSON with the driver on standard input and output
    #[arg(long, hide = true)]
    pub control: bool,
    /// Become this command, a server of the user's own
    #[arg(long, hide = true)]
    pub exec: Option<String>,
    /// CPUs of that command
    #[arg(long, hide = true, requires = "exec", default_value = "")]
    pub cpus: String,
}

#[derive(Debug, Args)]
pub struct LimitsArgs {
    /// Say whether this many lanes fit
    #[arg(long, value_name = "COUNT", value_parser = values::lanes)]
    pub lanes: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests;
