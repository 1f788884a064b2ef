"""All checks, in the order in which they make sense: what fails first explains what follows."""

from __future__ import annotations

from outpost.testing.contract import Check
from outpost.testing.declaring import (
    declared_abilities_work,
    ping_says_how_it_is,
    quote_is_pure,
    secrets_are_shown_to_nobody,
    undeclared_abilities_are_refused,
    workers_are_of_one_federation,
)
from outpost.testing.ending import (
    cancelled_ends_may_be_repeated,
    destroy_leaves_nothing,
    destroy_may_be_repeated,
    messages_arrive,
    status_tells_the_living_from_the_dead,
    stop_ends_the_whole_tree,
    stop_may_be_repeated,
    the_dead_are_mended,
    what_cannot_be_seen_is_not_dead,
)
from outpost.testing.reading import (
    cancelled_reading_leaves_nothing,
    events_follow_on_from_anywhere,
    events_resume_anywhere,
    large_logs_take_little_memory,
    lines_come_while_work_runs,
    very_large_logs_take_little_memory,
)
from outpost.testing.starting import (
    cancelled_spawn_hides_nothing,
    find_adopts,
    find_of_nobody_is_none,
    handles_of_others_are_refused,
    spawn_is_idempotent,
    work_is_pushed,
)

CHECKS: tuple[Check, ...] = (
    ping_says_how_it_is,
    quote_is_pure,
    find_of_nobody_is_none,
    work_is_pushed,
    spawn_is_idempotent,
    find_adopts,
    handles_of_others_are_refused,
    workers_are_of_one_federation,
    events_resume_anywhere,
    events_follow_on_from_anywhere,
    lines_come_while_work_runs,
    large_logs_take_little_memory,
    very_large_logs_take_little_memory,
    declared_abilities_work,
    undeclared_abilities_are_refused,
    messages_arrive,
    stop_ends_the_whole_tree,
    stop_may_be_repeated,
    status_tells_the_living_from_the_dead,
    the_dead_are_mended,
    what_cannot_be_seen_is_not_dead,
    destroy_leaves_nothing,
    destroy_may_be_repeated,
    secrets_are_shown_to_nobody,
    cancelled_reading_leaves_nothing,
    cancelled_spawn_hides_nothing,
    cancelled_ends_may_be_repeated,
)
