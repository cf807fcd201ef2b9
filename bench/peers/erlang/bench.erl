%% SPDX-License-Identifier: Apache-2.0
%% bench: the rows of bench/actors, written for Erlang. `erl ... -run bench main ROW` runs one row and prints its JSON line.
%% The amounts of work are those of bench/actors/*.c. Processes, links and plain messages; no option of the virtual machine
%% but a process limit that admits a million.
-module(bench).
-export([main/1]).

%% name, unit, amount of work, what runs it
rows() ->
    [
        {"ping_pong", "msg/s", 10000000, fun(N) -> rounds:ring(2, N) end},
        {"counting", "msg/s", 10000000, fun streams:counting/1},
        {"fork_join_throughput", "msg/s", 60 * 100000, fun(N) -> streams:fork_join(60, N div 60) end},
        {"fork_join_create", "actors/s", 1000000, fun births:fork_join_create/1},
        {"thread_ring", "msg/s", 10000000, fun(N) -> rounds:ring(1000, N) end},
        {"big", "msg/s", 2 * 120 * 50000, fun(N) -> crowds:big(120, N div 2 div 120) end},
        {"chameneos", "meetings/s", 2000000, fun(N) -> crowds:chameneos(100, N) end},
        {"fan_in_2", "msg/s", 10000000, fun(N) -> streams:fan_in(2, N div 2) end},
        {"fan_in_100", "msg/s", 10000000, fun(N) -> streams:fan_in(100, N div 100) end},
        {"cross_worker_ping", "msg/s", 1000000, fun rounds:cross_worker_ping/1},
        {"spawn", "actors/s", 2000000, fun births:spawn_each/1},
        {"idle_actor_bytes", "B", 1000000, fun births:idle_bytes/1}
    ].

main([Name]) ->
    case lists:keyfind(Name, 1, rows()) of
        {Name, Unit, Amount, Run} ->
            Value = measure(Unit, Amount, Run),
            io:format("{\"bench\":\"~s\",\"rate\":~b,\"unit\":\"~s\"}~n", [Name, round(Value), Unit]),
            halt(0);
        false ->
            io:format(standard_error, "no row ~s; rows: ~s~n", [Name, lists:join(" ", [element(1, R) || R <- rows()])]),
            halt(2)
    end.

measure("B", Amount, Run) ->
    Run(Amount);
measure(_Rate, Amount, Run) ->
    {Microseconds, _} = timer:tc(Run, [Amount]),
    Amount * 1.0e6 / Microseconds.
