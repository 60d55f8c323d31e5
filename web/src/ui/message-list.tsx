/** The messages of the open room: scrolled to where the reader wants to be, and kept there. */

import { useSignalEffect } from "@preact/signals";
import { useCallback, useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Agents } from "../chat/agents";
import type { Chat } from "../chat/chat";
import type { Room } from "../chat/room";
import { byDay, type Day } from "../model/groups";
import { doneAgain } from "../model/run-events";
import type { Run } from "../model/runs";
import { messagesOf } from "../model/timeline";
import { Down } from "./icons";
import { Marker, MessageGroup } from "./message-group";
import { OutgoingList } from "./outgoing-list";
import { RunList } from "./run-view";
import { dayName } from "./times";

/** This close to the end counts as being there. */
const BOTTOM_PX = 40;
/** Older messages are fetched when the top comes this near. */
const OLDER_PX = 800;
/** Where the "new" line comes to stand in the list, from the top. */
const MARKER_AT = 0.25;

export function MessageList({ chat, room }: { chat: Chat; room: Room }) {
  const scroller = useRef<HTMLElement>(null);
  const timeline = room.timeline.value;
  const marker = room.marker.value;
  const { days, newFrom } = useMemo(() => {
    const messages = messagesOf(timeline);
    const first =
      marker === undefined
        ? undefined
        : messages.find(({ offset }) => offset > marker)?.offset;
    return { days: byDay(messages, first), newFrom: first };
  }, [timeline, marker]);
  const retried = useRetried(days);
  const outgoing = chat.outbox.value.filter((each) => each.room === room.name);
  const { look, jump } = useScrolling(chat, room, scroller, outgoing.length);

  return (
    <div class="messages-frame">
      <section
        class="messages"
        ref={scroller}
        onScroll={look}
        aria-label={`Messages in #${room.name}`}
        aria-busy={!timeline.loaded}
        data-testid="messages"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
      >
        <div class="messages-inner">
          <Beginning room={room} />
          {days.map((day) => (
            <DaySection
              key={day.key}
              day={day}
              newFrom={newFrom}
              me={chat.me}
              kept={room.agents.kept.value}
              agents={room.agents}
              retried={retried}
            />
          ))}
          <RunList chat={chat} room={room} />
          <OutgoingList chat={chat} outgoing={outgoing} />
        </div>
      </section>
      {!chat.atBottom.value && (
        <button type="button" class="jump" onClick={jump}>
          <Down />
          {room.unread.value > 0 ? `${room.unread.value} new` : "Newest"}
          <span class="unseen"> messages: go to the newest</span>
        </button>
      )}
    </div>
  );
}

interface DayProps {
  readonly day: Day;
  /** Offset of the first message behind the "new" line. */
  readonly newFrom: number | undefined;
  readonly me: string;
  /** How runs came about that ended while one watched. */
  readonly kept: ReadonlyMap<string, Run>;
  readonly agents: Agents;
  /** Runs that were done again. */
  readonly retried: ReadonlySet<string>;
}

/** Runs that were done again; the same set as long as they are the same runs. */
function useRetried(days: readonly Day[]): ReadonlySet<string> {
  const known = useRef<ReadonlySet<string>>(new Set());
  return useMemo(() => {
    const found = new Set(
      days.flatMap(({ groups }) =>
        groups.flatMap(({ messages }) => doneAgain(messages)),
      ),
    );
    const same =
      found.size === known.current.size &&
      [...found].every((run) => known.current.has(run));
    known.current = same ? known.current : found;
    return known.current;
  }, [days]);
}

function DaySection({ day, newFrom, me, kept, agents, retried }: DayProps) {
  const heading = `day-${day.key}`;
  return (
    <section class="day" aria-labelledby={heading}>
      <h2 id={heading} class="day-name">
        <span>{day.date === "" ? "Earlier" : dayName(day.date, Date.now())}</span>
      </h2>
      {day.groups.map((group) => (
        <div key={group.key}>
          {newFrom !== undefined && group.messages[0]?.offset === newFrom && <Marker />}
          <MessageGroup
            group={group}
            me={me}
            kept={kept}
            agents={agents}
            retried={retried}
          />
        </div>
      ))}
    </section>
  );
}

function Beginning({ room }: { room: Room }) {
  const { complete, loaded, entries } = room.timeline.value;
  const trouble = room.olderTrouble.value;
  const late = room.trouble.value;
  if (!loaded) {
    return (
      <>
        <p class="older" role="status">
          {late !== undefined && `Messages are late: ${late}. Trying again …`}
        </p>
        <div class="skeleton" aria-hidden="true">
          {["a", "b", "c"].map((key) => (
            <div key={key} class="skeleton-row" />
          ))}
        </div>
      </>
    );
  }
  if (trouble !== undefined) {
    return (
      <p class="older" role="alert">
        Older messages did not come: {trouble}.{" "}
        <button type="button" class="link" onClick={() => void room.loadOlder()}>
          Try again
        </button>
      </p>
    );
  }
  if (!complete) {
    return (
      <p class="older">
        {room.loadingOlder.value && <span class="spinner" aria-hidden="true" />}
        Older messages …
      </p>
    );
  }
  return (
    <div class="beginning">
      <span class="beginning-hash" aria-hidden="true">
        #
      </span>
      <p>
        <b>{room.name}</b> begins here.
        {entries.length === 0 && " Say something."}
      </p>
    </div>
  );
}

/**
 * Keep the reader's place. At the bottom one stays at the bottom, whatever grows; anywhere
 * else the words under one's eyes stay there, also while older ones arrive above them.
 */
function useScrolling(
  chat: Chat,
  room: Room,
  scroller: { current: HTMLElement | null },
  outgoing: number,
) {
  const timeline = room.timeline.value;
  // As it was when last drawn.
  const drawn = useRef({ height: 0, base: 0, placed: false });

  const look = useCallback(() => {
    const element = scroller.current;
    if (element === null || !drawn.current.placed) {
      return;
    }
    const { scrollTop, scrollHeight, clientHeight } = element;
    chat.atBottom.value = scrollHeight - scrollTop - clientHeight <= BOTTOM_PX;
    if (scrollTop < OLDER_PX && room.olderTrouble.peek() === undefined) {
      void room.loadOlder();
    }
  }, [chat, room, scroller]);

  const jump = useCallback(() => {
    chat.atBottom.value = true;
    if (scroller.current !== null) {
      scroller.current.scrollTop = scroller.current.scrollHeight;
    }
  }, [chat, scroller]);

  // `outgoing` is here because it changes the height.
  useLayoutEffect(() => {
    const element = scroller.current;
    if (element === null || !timeline.loaded) {
      return;
    }
    const before = drawn.current;
    if (!before.placed) {
      place(element);
    } else if (timeline.base < before.base) {
      element.scrollTop += element.scrollHeight - before.height;
    } else if (chat.atBottom.peek()) {
      element.scrollTop = element.scrollHeight;
      room.trim();
    }
    drawn.current = { height: element.scrollHeight, base: timeline.base, placed: true };
    look();
  }, [timeline, outgoing, chat, room, scroller, look]);

  useEffect(() => {
    const element = scroller.current;
    const content = element?.firstElementChild;
    if (element === null || content === null || content === undefined) {
      return undefined;
    }
    // The message box grows, a phone's keyboard opens, a notice appears.
    const observer = new ResizeObserver(() => {
      if (chat.atBottom.peek() && drawn.current.placed) {
        element.scrollTop = element.scrollHeight;
      }
      drawn.current = { ...drawn.current, height: element.scrollHeight };
    });
    observer.observe(element);
    observer.observe(content);
    return () => observer.disconnect();
  }, [chat, scroller]);

  const wished = useRef(chat.toNewest.peek());
  useSignalEffect(() => {
    if (chat.toNewest.value !== wished.current) {
      wished.current = chat.toNewest.value;
      jump();
    }
  });

  return { look, jump };
}

/** Where to begin reading: at what is new, else at the end. */
function place(element: HTMLElement): void {
  const line = element.querySelector<HTMLElement>(".marker");
  element.scrollTop =
    line === null
      ? element.scrollHeight
      : line.offsetTop - element.clientHeight * MARKER_AT;
}
