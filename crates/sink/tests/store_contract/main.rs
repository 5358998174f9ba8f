//! One contract, run against every store: the embedded one, an old and a modern ClickHouse, and
//! a cluster of two shards with two replicas each.
//!
//! The ClickHouse servers are those of `TIDEMILL_CLICKHOUSE_URL` and
//! `TIDEMILL_CLICKHOUSE_MODERN_URL`, else they are started once for this program.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod amended;
mod cases;
mod faults;
mod fixture;
mod https;
mod proxy;
mod replicated;
mod services;
mod target;

/// All cases.
mod contract {
    pub(crate) use crate::{amended::*, cases::*};
}

/// Makes each case a test of each store, so that a failure names both.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        contract!(@store embedded: $($case),+);
        contract!(@store legacy: $($case),+);
        contract!(@store modern: $($case),+);
        contract!(@store cluster: $($case),+);
    };
    (@store $store:ident: $($case:ident),+) => {
        mod $store {
            $(
                #[test]
                fn $case() {
                    crate::contract::$case(crate::target::Target::$store());
                }
            )+
        }
    };
}

contract!(
    as_many_stored_rows_are_found_as_are_asked_for,
    at_one_ordinal_the_later_commit_is_the_record,
    birth_record_without_rows_is_read_back,
    committed_rows_letters_and_record_are_read_back,
    devices_of_several_partitions_are_counted,
    forgotten_rows_and_letters_are_not_in_the_totals,
    higher_revision_replaces_and_lower_never_wins,
    letters_are_chosen_by_reason_and_key,
    letters_with_absurd_times_are_kept,
    lower_revision_within_one_commit_never_wins,
    newest_commits_are_read_by_their_number,
    nulls_unicode_and_extremes_keep_their_bits,
    one_commit_may_span_days_and_pieces,
    records_of_several_lanes_do_not_mix,
    rows_alone_give_way_as_in_a_commit_and_leave_the_record,
    rows_are_found_by_their_window_and_misfits_are_named,
    rows_without_a_state_cannot_be_amended_and_their_table_says_why,
    same_commit_again_changes_nothing,
    stale_owner_never_hides_the_newer_record,
    stored_row_is_the_one_of_the_highest_revision,
    stored_rows_are_found_by_keys_of_any_characters,
    tables_that_differ_are_refused_with_each_difference,
    totals_count_what_the_ledger_claims,
    twenty_thousand_rows_are_one_commit,
    unknown_columns_of_a_query_are_named,
);
