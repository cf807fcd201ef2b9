%% SPDX-License-Identifier: Apache-2.0
%% crowds: many processes that all talk at once (bench/actors/crowds.c).
-module(crowds).
-export([big/2, chameneos/2]).

%% Savina's generator: the same choices in every peer.
random(Random) ->
    (Random * 1309 + 13849) band 65535.

%% ---- big

big(Count, PingsEach) ->
    Main = self(),
    Pids = [
        spawn_link(fun() ->
            receive
                {start, All} -> talk(All, Main, ping(All, I), PingsEach)
            end
        end)
     || I <- lists:seq(0, Count - 1)
    ],
    [Pid ! {start, list_to_tuple(Pids)} || Pid <- Pids],
    [
        receive
            done -> ok
        end
     || _ <- Pids
    ].

ping(All, Random) ->
    Next = random(Random),
    element(Next rem tuple_size(All) + 1, All) ! {ping, self()},
    Next.

talk(All, Main, Random, Left) ->
    receive
        {ping, From} ->
            From ! pong,
            talk(All, Main, Random, Left);
        pong when Left =:= 1 ->
            Main ! done,
            talk(All, Main, Random, 0);
        pong ->
            talk(All, Main, ping(All, Random), Left - 1)
    end.

%% ---- chameneos

chameneos(Count, Meetings) ->
    Main = self(),
    Mall = spawn_link(fun() -> mall(Meetings, Main) end),
    Colors = {blue, red, yellow},
    [spawn_link(fun() -> meet(Mall, element(I rem 3 + 1, Colors)) end) || I <- lists:seq(0, Count - 1)],
    receive
        done -> ok
    end.

mall(0, Main) ->
    Main ! done,
    closed();
mall(Left, Main) ->
    receive
        {meet, _, First} ->
            receive
                {meet, _, _} = Second -> First ! Second
            end
    end,
    mall(Left - 1, Main).

closed() ->
    receive
        _ -> closed()
    end.

meet(Mall, Color) ->
    Mall ! {meet, Color, self()},
    creature(Mall, Color).

creature(Mall, Color) ->
    receive
        {meet, OtherColor, Other} ->
            New = complement(Color, OtherColor),
            Other ! {change, New},
            meet(Mall, New);
        {change, New} ->
            meet(Mall, New)
    end.

complement(Color, Color) -> Color;
complement(blue, red) -> yellow;
complement(blue, yellow) -> red;
complement(red, blue) -> yellow;
complement(red, yellow) -> blue;
complement(yellow, blue) -> red;
complement(yellow, red) -> blue.
