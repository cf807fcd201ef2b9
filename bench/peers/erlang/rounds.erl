%% SPDX-License-Identifier: Apache-2.0
%% rounds: one token that goes round and round (bench/actors/rounds.c).
-module(rounds).
-export([ring/2, cross_worker_ping/1]).

ring(Size, Hops) ->
    run([spawn_link(fun start/0) || _ <- lists:seq(1, Size)], Hops).

%% Each of the two on a scheduler of its own: the one way to keep them apart, and not documented.
cross_worker_ping(Hops) ->
    run([spawn_opt(fun start/0, [link, {scheduler, I}]) || I <- [1, 2]], Hops).

run([First | Rest] = Pids, Hops) ->
    [Pid ! {start, Next, self()} || {Pid, Next} <- lists:zip(Pids, Rest ++ [First])],
    First ! Hops,
    receive
        done -> ok
    end.

start() ->
    receive
        {start, Next, Main} -> token(Next, Main)
    end.

token(Next, Main) ->
    receive
        1 ->
            Main ! done;
        Left ->
            Next ! Left - 1,
            token(Next, Main)
    end.
