%% SPDX-License-Identifier: Apache-2.0
%% streams: messages that flow one way, as fast as their senders can (bench/actors/streams.c).
-module(streams).
-export([counting/1, fan_in/2, fork_join/2]).

counting(Count) ->
    Counter = spawn_link(fun() -> counter(0) end),
    Main = self(),
    spawn_link(fun() ->
        send(Counter, Count),
        Counter ! {retrieve, self()},
        receive
            Count -> Main ! done
        end
    end),
    receive
        done -> ok
    end.

counter(Sum) ->
    receive
        {work, N} -> counter(Sum + N);
        {retrieve, From} -> From ! Sum
    end.

send(_To, 0) ->
    ok;
send(To, Left) ->
    To ! {work, 1},
    send(To, Left - 1).

fan_in(SenderCount, CountEach) ->
    Main = self(),
    Receiver = spawn_link(fun() -> receive_all(SenderCount * CountEach, Main) end),
    [spawn_link(fun() -> send(Receiver, CountEach) end) || _ <- lists:seq(1, SenderCount)],
    receive
        done -> ok
    end.

receive_all(0, Main) ->
    Main ! done;
receive_all(Left, Main) ->
    receive
        {work, N} -> receive_all(Left - N, Main)
    end.

fork_join(ActorCount, CountEach) ->
    Main = self(),
    Joiners = [spawn_link(fun() -> joiner(CountEach, Main) end) || _ <- lists:seq(1, ActorCount)],
    spawn_link(fun() -> fork(Joiners, CountEach) end),
    [
        receive
            done -> ok
        end
     || _ <- Joiners
    ].

fork(_Joiners, 0) ->
    ok;
fork(Joiners, Left) ->
    [Joiner ! {work, Left} || Joiner <- Joiners],
    fork(Joiners, Left - 1).

joiner(0, Main) ->
    Main ! done;
joiner(Left, Main) ->
    receive
        {work, N} ->
            Sine = math:sin(N),
            true = Sine * Sine =< 1.0,
            joiner(Left - 1, Main)
    end.
