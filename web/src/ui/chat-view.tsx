/** The signed-in page: rooms at the left, the open one at the right. */

import { useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Chat } from "../chat/chat";
import { Announcer } from "./announcer";
import { ConnectionNotice } from "./connection-notice";
import { RoomView } from "./room-view";
import { addressed, goTo, settleOn } from "./route";
import { MESSAGE_FIELD_ID, shortcuts } from "./shortcuts";
import { Sidebar } from "./sidebar";

/** Wide enough for rooms and messages side by side; the style sheets know it too. */
const WIDE = "(min-width: 760px)";

export function ChatView({ chat, onSignOut }: { chat: Chat; onSignOut: () => void }) {
  useSignalEffect(() => {
    const name = addressed.value;
    chat.open(name);
    if (name !== undefined && chat.openRoom.peek()?.name !== name) {
      // There are too many rooms already for this one.
      goTo(chat.openRoom.peek()?.name);
    }
  });

  useEffect(() => {
    const last = chat.lastOpen;
    if (
      addressed.peek() === undefined &&
      last !== undefined &&
      matchMedia(WIDE).matches
    ) {
      settleOn(last);
    }
    return shortcuts(chat);
  }, [chat]);

  const room = chat.openRoom.value;
  const unread = chat.unread.value;
  useEffect(() => {
    const name = room === undefined ? "chatmesh" : `#${room.name} · chatmesh`;
    document.title = unread > 0 ? `(${unread}) ${name}` : name;
  }, [room, unread]);

  return (
    <div class="page" data-view={room === undefined ? "rooms" : "room"}>
      <button
        type="button"
        class="skip"
        onClick={() => document.getElementById(MESSAGE_FIELD_ID)?.focus()}
      >
        Skip to the message box
      </button>
      <ConnectionNotice chat={chat} onSignOut={onSignOut} />
      <Sidebar chat={chat} onSignOut={onSignOut} />
      {room === undefined ? (
        <main class="room empty">
          <p>Choose a room at the left, or join one by its name.</p>
        </main>
      ) : (
        <RoomView key={room.name} chat={chat} room={room} />
      )}
      <Announcer chat={chat} />
    </div>
  );
}
