# SPDX-License-Identifier: Apache-2.0
"""Rules of the side that takes a guest over."""
from table import table

RECEIVE = "tests/peer/test_lies_to_receive.py::"

MUTANTS = table(
    "destination", "src/migrate/",
    ("stage-order", "stages come in the order of the table", "destination.c", "if (i < 0 || !is_due(d, i))",
     "if (i < 0)", RECEIVE + "test_stages_in_any_order"),
    ("stage-repeats", "only `iterate` and `final` are asked for again", "destination.c",
     "i == d->stage && stages[i].repeats", "i == d->stage", RECEIVE + "test_stages_in_any_order[iterate]"),
    ("pages-missing", "no device state is loaded while pages are missing", "destination_stages.c",
     "if (ram_receive_rejected(d->ram.receive) > 0)", "if (0)",
     RECEIVE + "test_device_state_of_a_guest_with_pages_missing"),
    ("ran-or-not", "a guest that did not run at the source does not run here", "destination_stages.c",
     "json_is_true(json_object_get(args, \"running\"))", "!json_is_null(args)", RECEIVE + "test_whether_the_guest_ran"),
    ("autostart", "autostart=off leaves the guest paused", "destination_stages.c",
     "d->params.value[PARAM_AUTOSTART] != 0 && ", "", "tests/faults/test_held_up.py::test_strangers_with_a_right_hello"),
    ("channel-count", "a source has 1 to 64 channels", "destination_stages.c", "if (channels < 1 || channels > "
     "CALLER_CHANNELS)", "if (channels < 0 || channels > 1000)", RECEIVE + "test_attach_with_nonsense[no channel]"),
    ("session", "a connection belongs to a migration by its session", "caller.c",
     " || memcmp(h->session, c->session, SESSION_SIZE) != 0", "", RECEIVE + "test_channels_need_the_session"),
    ("channel-order", "channels come in order", "caller.c", "return h->channel == c->channel_count && h->channel",
     "return h->channel", RECEIVE + "test_channels_come_in_order"),
    ("one-device", "there is one device connection", "caller.c", " && c->device.fd < 0;", ";",
     RECEIVE + "test_one_device_connection"),
    ("channels-in-time", "channels come after the two have agreed, before memory", "destination.c",
     "return awaits_channels(opaque) && ", "return ",
     RECEIVE + "test_connections_at_the_wrong_time"),
    ("one-request", "one request at a time", "caller.c", "&& c->request == NULL ", "", RECEIVE + "test_two_requests_at_once"),
    ("early-bye", "a migration is complete when the guest was let run", "caller.c",
     "strcmp(type, \"bye\") == 0 && state == TAKEOVER_DONE", "strcmp(type, \"bye\") == 0",
     RECEIVE + "test_words_that_it_must_not_say[final-a goodbye]"),
    ("takeover-table", "a takeover that failed does not become another", "takeover.c",
     "return (moves[from] & (1u << to)) != 0;", "return true || (moves[from] & (1u << to)) != 0;", "meson:takeover"),
    ("abort-after-loaded", "the source may give up until it asks for `run`", "takeover.c",
     "[TAKEOVER_LOADED] = TO(ASKED) | TO(GIVEN_UP) | ", "[TAKEOVER_LOADED] = TO(ASKED) | ",
     RECEIVE + "test_it_gives_up[run]"),
    ("no-abort-after-run", "once asked for `run` nobody gives up", "takeover.c",
     "[TAKEOVER_ASKED] = TO(DONE) | ", "[TAKEOVER_ASKED] = TO(DONE) | TO(GIVEN_UP) | ", "meson:takeover"),
    ("pings-are-no-guest", "pings do not keep a place in the queue", "candidate.c",
     "return ++c->pings <= CANDIDATE_PINGS ? 0", "return 1 ? 0", "meson:candidate"),
    ("candidate-length", "a stranger's message is bounded", "candidate.c", " || c->size > LINK_MAX_MESSAGE", "",
     "meson:candidate"),
)
