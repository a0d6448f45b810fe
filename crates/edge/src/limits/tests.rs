//! The table says what the flags, the metrics and the page of docs/limits.md say.

use clap::CommandFactory as _;

use super::{Limit, TABLE};
use crate::config::Config;

#[test]
fn every_row_is_a_flag_with_its_default_and_every_flag_of_the_table_a_row() {
    let command = Config::command();
    for Limit { name, default, .. } in TABLE {
        let flag = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        let flag = flag.unwrap_or_else(|| panic!("--{name} is in the table and no flag"));
        let shown: Vec<_> = flag.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let shown = shown.first().map_or("none", |value| value);
        assert_eq!(shown, *default, "--{name}");
    }
    let flags = <super::Flags as clap::Args>::augment_args(clap::Command::new("limits"));
    let flags: Vec<_> = flags.get_arguments().filter_map(clap::Arg::get_long).collect();
    let rows: Vec<_> = TABLE.iter().map(|limit| limit.name).collect();
    assert_eq!(rows, flags, "in the same order");
}

#[test]
fn every_metric_is_there() {
    let page = crate::metrics::tests::page();
    for Limit { name, metric, .. } in TABLE {
        let sample = format!("trestle_edge_{metric} ");
        assert!(page.lines().any(|line| line.starts_with(&sample)), "{name}: {sample}is not in\n{page}");
    }
}

#[test]
fn the_page_of_the_docs_is_this_table() {
    let row = |Limit { name, default, bounds, reaction, metric }: &Limit| {
        format!("| `--{name}` | {default} | {bounds} | {reaction} | `{metric}` |\n")
    };
    let table: String = TABLE.iter().map(row).collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(page.contains(&table), "docs/limits.md is to hold these rows:\n{table}");
}
