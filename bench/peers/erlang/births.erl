%% SPDX-License-Identifier: Apache-2.0
%% births: processes that come and go, or stay and do nothing (bench/actors/births.c).
-module(births).
-export([spawn_each/1, fork_join_create/1, idle_bytes/1]).

spawn_each(Count) ->
    run(Count, fun(_) -> ok end).

fork_join_create(Count) ->
    run(Count, fun(N) ->
        Sine = math:sin(N),
        true = Sine * Sine =< 1.0
    end).

%% The last child that counts itself down tells.
run(Count, Work) ->
    Main = self(),
    Left = atomics:new(1, []),
    atomics:put(Left, 1, Count),
    Child = fun() ->
        receive
            N ->
                Work(N),
                atomics:sub_get(Left, 1, 1) =:= 0 andalso (Main ! done)
        end
    end,
    spawn_link(fun() -> spawn_children(Child, Count) end),
    receive
        done -> ok
    end.

spawn_children(_Child, 0) ->
    ok;
spawn_children(Child, Left) ->
    spawn(Child) ! Left,
    spawn_children(Child, Left - 1).

idle_bytes(Count) ->
    Before = resident_bytes(),
    Pids = [spawn(fun idle/0) || _ <- lists:seq(1, Count)],
    After = resident_bytes(),
    true = is_process_alive(lists:last(Pids)),
    (After - Before) / Count.

idle() ->
    receive
        stop -> ok
    end.

resident_bytes() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_Total, Resident | _] = string:lexemes(Text, " "),
    binary_to_integer(Resident) * 4096.
