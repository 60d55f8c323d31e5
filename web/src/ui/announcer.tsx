/**
 * Tells screen readers what arrives in the open room.
 *
 * The message list itself is no live region: scrolling back puts hundreds of old messages
 * into it, and nobody wants those read out.
 */

import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../chat/chat";
import type { Message } from "../model/entries";
import { lastOf, messagesOf } from "../model/timeline";

const SPOKEN_CHARS_MAX = 240;
/** More than this at once is told as a number. */
const SPOKEN_MESSAGES_MAX = 3;

export function Announcer({ chat }: { chat: Chat }) {
  const room = chat.openRoom.value;
  const timeline = room?.timeline.value;
  const said = useRef({ room: "", last: 0 });
  /** Runs and approvals that were spoken of; not each word of them. */
  const told = useRef<ReadonlySet<string>>(new Set());
  const [spoken, setSpoken] = useState("");

  useEffect(() => {
    if (room === undefined || timeline === undefined || !timeline.loaded) {
      return;
    }
    const last = lastOf(timeline);
    const { room: before, last: from } = said.current;
    said.current = { room: room.name, last };
    if (before !== room.name || last <= from) {
      return;
    }
    const news = messagesOf(timeline).filter(
      ({ offset, author }) => offset > from && author !== chat.me,
    );
    if (news.length > 0) {
      setSpoken(inWords(news));
    }
  }, [chat, room, timeline]);

  useSignalEffect(() => {
    const runs = [...(chat.openRoom.value?.agents.runs.value.live.values() ?? [])];
    const news = runs.flatMap((run) =>
      [
        [run.id, `${run.face.title} is answering`] as const,
        ...run.approvals.map(
          ({ id, tool }) =>
            [id, `${run.face.title} asks for approval to use ${tool}`] as const,
        ),
      ].filter(([id]) => !told.current.has(id)),
    );
    if (news.length > 0) {
      // Only what is open can be told again, so nothing else need be remembered.
      told.current = new Set(
        runs.flatMap(({ id, approvals }) => [id, ...approvals.map((each) => each.id)]),
      );
      setSpoken(news.map(([, words]) => words).join(". "));
    }
  });

  return (
    <p class="unseen" aria-live="polite" aria-atomic="true" data-testid="announcer">
      {spoken}
    </p>
  );
}

function inWords(news: readonly Message[]): string {
  if (news.length > SPOKEN_MESSAGES_MAX) {
    return `${news.length} new messages`;
  }
  return news
    .map(
      ({ author, face, text }) =>
        `${face?.title ?? author}: ${text.slice(0, SPOKEN_CHARS_MAX)}`,
    )
    .join(". ");
}
