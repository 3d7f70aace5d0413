"""``secure-net chat``: a room, on a terminal or line by line."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import click

from secure_net.cli.chat_lines import Conversation, Wish, lines_of, message_line
from secure_net.cli.context import ClientFlags, ClientSettings, CommandContext, client_options
from secure_net.cli.output import Output, json_option

HISTORY_COUNT = 20  # messages from before that a terminal shows
PATIENCE_SECONDS = 60.0  # how long a script may go on without a connection


def room_name(text: str) -> str:
    """The name of a room."""
    if not re.fullmatch(r"[a-z0-9._-]{1,64}", text):
        raise click.BadParameter("rooms are [a-z0-9._-]{1,64}")
    return text


@click.command()
@click.argument("room", type=room_name)
@click.option(
    "--after", type=click.IntRange(min=0), help="Show all that came after this message (0: all kept)."
)
@click.option(
    "--history",
    type=click.IntRange(min=0),
    help="Show so many earlier messages (on a terminal 20, else none).",
)
@click.option("--follow", is_flag=True, help="In a pipe: go on when stdin has ended.")
@click.option(
    "--no-join", is_flag=True, help="In a pipe: only say what comes on stdin; needs no chat:subscribe."
)
@client_options("chat")
@json_option
@click.pass_obj
def chat(
    context: CommandContext,
    *,
    room: str,
    after: int | None,
    history: int | None,
    follow: bool,
    no_join: bool,
    flags: ClientFlags,
    as_json: bool,
) -> None:
    """Say and read what is said in ROOM.

    On a terminal it shows who is there and what is said while one types. In a pipe every line of stdin is
    said and every message printed, one a line; it ends when stdin has ended and all that was said is
    acknowledged and shown.
    """
    settings = context.client("chat", flags)
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and not (as_json or no_join)
    if history is None:
        history = HISTORY_COUNT if on_terminal else 0
    wish = Wish(room, after, history, follow, listen=not no_join)
    if on_terminal:
        asyncio.run(_view(settings, wish))
    else:
        asyncio.run(_converse(settings, wish, as_json=as_json))


async def _view(settings: ClientSettings, wish: Wish) -> None:
    from secure_net.cli.chat_view import View
    from secure_net.discovery import parse_url
    from secure_net.messaging.client import ChatClient

    host, port, _ = parse_url("chat", settings.url)
    client = ChatClient(host, port, **settings.credentials)
    coloured = "NO_COLOR" not in os.environ
    await View(client, wish, sys.stdout, sys.stdin.fileno(), coloured=coloured).run()


async def _converse(settings: ClientSettings, wish: Wish, *, as_json: bool) -> None:
    from secure_net.discovery import parse_url
    from secure_net.messaging.client import ChatClient

    host, port, _ = parse_url("chat", settings.url)
    client = ChatClient(host, port, patience_seconds=PATIENCE_SECONDS, **settings.credentials)
    out, err = Output(), Output(stream=sys.stderr)
    conversation = Conversation(
        client,
        wish,
        lambda message: out.line(message_line(message, as_json=as_json)),
        lambda text: err.line(f"secure-net: {text}"),
    )
    await conversation.run(lines_of(sys.stdin.fileno()))
