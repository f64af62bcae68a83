mod fleet;

use super::*;
use crate::submit::SubmitArgs;
use clap::Parser;
use fleet::Script;
use gpuloom_api::{CallError, Refusal};

#[test]
fn an_error_is_a_sentence_for_people_and_a_document_for_programs() {
    let refusal = Refusal::not_found("job", "17", "`gpuloom jobs` lists them");
    let error = CliError::Call(CallError::Refused(refusal));
    assert_eq!(
        complaint(&error, OutputFormat::Table),
        "gpuloom: there is no job \"17\"; `gpuloom jobs` lists them"
    );
    let read: Value =
        serde_json::from_str(&complaint(&error, OutputFormat::Json)).expect("a document");
    assert_eq!(read["error"]["code"], "not_found");
    assert_eq!(read["error"]["exit_code"], 3);
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let script = completion(Cli::command(), shell);
        assert!(
            script.contains("cordon") && script.contains("ca-pin"),
            "{shell}"
        );
    }
}

fn args(line: &str) -> SubmitArgs {
    match Cli::try_parse_from(line.split_whitespace())
        .expect(line)
        .command
    {
        Command::Run(args) => args,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn run_ends_with_its_jobs_exit_code_once_its_output_is_shown() {
    let fleet = fleet::serving(vec![
        Script::Job("pending", None),
        Script::Job("active", None),
        Script::Job("failed", Some(3)),
    ])
    .await;
    let done = follow::run(&fleet.session, &args("gpuloom run -- python train.py")).await;
    assert_eq!(done.expect("it ends"), Exit(3));
    assert_eq!(fleet.log_reads(), 1);
}

#[tokio::test]
async fn run_goes_on_after_the_connection_broke() {
    let fleet = fleet::serving(vec![
        Script::Job("active", None),
        Script::Break,
        Script::Job("active", None),
        Script::Break,
        Script::Job("succeeded", Some(0)),
    ])
    .await;
    let done = follow::run_with(
        &fleet.session,
        &args("gpuloom run -- true"),
        std::time::Duration::ZERO,
    )
    .await;
    assert_eq!(done.expect("it ends"), Exit::OK);
}

#[tokio::test]
async fn run_follows_one_job_and_no_array() {
    let fleet = fleet::serving(vec![]).await;
    let done = follow::run(&fleet.session, &args("gpuloom run --array 2 -- true")).await;
    let error = done.expect_err("an array");
    assert_eq!(error.exit(), Exit::USAGE);
}

#[tokio::test]
async fn a_refused_job_ends_run_with_what_was_refused() {
    let fleet = fleet::serving(vec![]).await;
    let line = "gpuloom run --tenant other -- true";
    let error = follow::run(&fleet.session, &args(line)).await;
    let error = error.expect_err("another tenant's");
    assert_eq!(error.exit(), Exit::DENIED);
    assert!(
        error.to_string().contains("use a token of tenant other"),
        "{error}"
    );
}

#[tokio::test]
async fn output_that_cannot_be_read_does_not_keep_run_from_the_jobs_end() {
    let line = "gpuloom run -- true";
    let gone = Refusal::unavailable("node n1 does not answer", "");
    let mut script = [Script::Job("active", None), Script::Break].repeat(6);
    script.push(Script::Job("failed", Some(3)));
    let fleet = fleet::serving_logs(script, Some(gone)).await;
    let done = follow::run_with(&fleet.session, &args(line), std::time::Duration::ZERO).await;
    assert_eq!(done.expect("it ends"), Exit(3));
    assert_eq!(fleet.log_reads(), 6);

    let never = Refusal::not_found("attempt", "1#1", "");
    let script = vec![Script::Job("failed", Some(4))];
    let fleet = fleet::serving_logs(script, Some(never)).await;
    let done = follow::run(&fleet.session, &args(line)).await;
    assert_eq!(done.expect("it ends"), Exit(4));
    assert_eq!(fleet.log_reads(), 1);
}
