//! The binary `mainstem`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use relay::cli::{self, Cli, Command};
use relay::config::LogFormat;
use relay::telemetry;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    match cli.command {
        Command::Serve(config) => {
            telemetry::start(config.log_format);
            runtime.block_on(cli::serve::run(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(config) => {
            telemetry::start_quiet(LogFormat::Text);
            runtime.block_on(cli::demo::run(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Tail(config) => {
            telemetry::start_quiet(LogFormat::Text);
            Ok(runtime.block_on(cli::tail::run(&config)))
        }
        Command::Hosts(config) => {
            telemetry::start_quiet(LogFormat::Text);
            Ok(runtime.block_on(cli::hosts::run(&config)))
        }
        Command::Backup(config) => {
            telemetry::start_quiet(LogFormat::Text);
            runtime.block_on(cli::backup::run(&config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(config) => {
            telemetry::start_quiet(LogFormat::Text);
            Ok(cli::check::run(&config))
        }
        Command::CheckFrame(config) => {
            telemetry::start_quiet(LogFormat::Text);
            cli::check_frame::run(&config)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
