/** The rooms, a field to find or join one, and who and where one is. */

import { useEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../chat/chat";
import { ROOMS_MAX } from "../chat/chat";
import type { Room } from "../chat/room";
import { roomNamed } from "../model/names";
import { newestMessage } from "../model/timeline";
import { Mark, Plus } from "./icons";
import { Me } from "./me";
import { addressOf, goTo } from "./route";
import { ROOM_FIELD_ID } from "./shortcuts";
import { recently } from "./times";

/** Counts above this read as "many". */
const BADGE_MAX = 99;

export function Sidebar({ chat, onSignOut }: { chat: Chat; onSignOut: () => void }) {
  const [typed, setTyped] = useState("");
  const [refusal, setRefusal] = useState<string>();
  const rooms = chat.rooms.value;
  const wanted = typed.trim().replace(/^#/, "").toLowerCase();
  const shown = rooms.filter((room) => room.name.toLowerCase().includes(wanted));
  const named = roomNamed(typed);
  const isNew = "name" in named && !rooms.some((room) => room.name === named.name);

  // On a narrow screen the room was all there was, and its focus went with it.
  const list = useRef<HTMLElement>(null);
  const nothingOpen = chat.openRoom.value === undefined;
  useEffect(() => {
    if (nothingOpen && document.activeElement === document.body) {
      list.current?.focus({ preventScroll: true });
    }
  }, [nothingOpen]);

  const join = (event: Event) => {
    event.preventDefault();
    if ("refusal" in named) {
      setRefusal(named.refusal);
    } else if (isNew && rooms.length >= ROOMS_MAX) {
      setRefusal(`At most ${ROOMS_MAX} rooms at a time. Leave one first.`);
    } else {
      setTyped("");
      setRefusal(undefined);
      goTo(named.name);
    }
  };

  return (
    <div class="sidebar">
      <header class="brand">
        <Mark />
        <span>chatmesh</span>
      </header>
      <search>
        <form class="find" onSubmit={join} noValidate>
          <label class="unseen" for={ROOM_FIELD_ID}>
            Find or join a room
          </label>
          <input
            id={ROOM_FIELD_ID}
            value={typed}
            placeholder="Find or join a room"
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            aria-describedby="find-note"
            aria-invalid={refusal !== undefined}
            onInput={(event) => {
              setTyped(event.currentTarget.value);
              setRefusal(undefined);
            }}
            onKeyDown={(event) => {
              if (event.key === "Escape") {
                setTyped("");
                setRefusal(undefined);
              }
            }}
          />
          <span class="find-key wide-only" aria-hidden="true">
            Ctrl K
          </span>
          {typed !== "" && isNew && (
            <button type="submit" class="join">
              <Plus />
              <span>
                Join <b>#{named.name}</b>
              </span>
            </button>
          )}
          <p id="find-note" class="note trouble" role="alert">
            {refusal}
          </p>
        </form>
      </search>
      <nav aria-label="Rooms" class="rooms" ref={list} tabIndex={-1}>
        <ul>
          {shown.map((room) => (
            <RoomLink key={room.name} room={room} chat={chat} />
          ))}
        </ul>
        {shown.length === 0 && typed === "" && (
          <p class="note quiet">No rooms yet. Type a name above to join one.</p>
        )}
      </nav>
      <Me chat={chat} onSignOut={onSignOut} />
    </div>
  );
}

function RoomLink({ room, chat }: { room: Room; chat: Chat }) {
  const open = chat.openRoom.value === room;
  const unread = room.unread.value;
  const newest = newestMessage(room.timeline.value);
  const stuck = chat.outbox.value.some(
    (outgoing) => outgoing.room === room.name && outgoing.state.at === "failed",
  );
  return (
    <li>
      <a
        href={addressOf(room.name)}
        class={`room-link${unread > 0 ? " unread" : ""}`}
        aria-current={open ? "page" : undefined}
      >
        <span class="room-hash" aria-hidden="true">
          #
        </span>
        <span class="room-name">{room.name}</span>
        {newest?.at !== undefined && (
          <span class="room-time">{recently(newest.at, Date.now())}</span>
        )}
        <LastLine room={room} open={open} me={chat.me} stuck={stuck} />
        {unread > 0 && (
          <span class="badge">
            {unread > BADGE_MAX ? `${BADGE_MAX}+` : unread}
            <span class="unseen"> unread</span>
          </span>
        )}
      </a>
    </li>
  );
}

function LastLine(props: { room: Room; open: boolean; me: string; stuck: boolean }) {
  const { room, open, me, stuck } = props;
  const state = room.state.value;
  const newest = newestMessage(room.timeline.value);
  const draft = room.draft.value.trim();
  if (state.at === "refused") {
    return <span class="room-last trouble">No access</span>;
  }
  if (stuck) {
    return <span class="room-last trouble">A message was not sent</span>;
  }
  if (draft !== "" && !open) {
    return (
      <span class="room-last">
        <em>Draft:</em> {draft}
      </span>
    );
  }
  if (newest !== undefined) {
    return (
      <span class="room-last">
        {newest.author === me ? "You" : (newest.face?.title ?? newest.author)}:{" "}
        {newest.text}
      </span>
    );
  }
  return (
    <span class="room-last">
      {room.timeline.value.loaded ? "Nothing said yet" : "\u00a0"}
    </span>
  );
}
