/** Keys that work anywhere on the page. */

import type { Chat } from "../chat/chat";
import { goTo } from "./route";

/** Listed in the keyboard help, in this order. */
export const HELP: readonly (readonly [keys: string, meaning: string])[] = [
  ["Enter", "Send the message"],
  ["Shift + Enter", "Start a new line"],
  ["Alt + ↑ / ↓", "Previous or next room"],
  ["Alt + Shift + ↓", "Next room with unread messages"],
  ["Ctrl + K", "Find or join a room"],
  ["Esc", "Back to the message box, at the newest message"],
];

export const ROOM_FIELD_ID = "find-room";
export const MESSAGE_FIELD_ID = "message";

/** Start listening; returns how to stop. */
export function shortcuts(chat: Chat): () => void {
  const listener = (event: KeyboardEvent) => {
    if (event.isComposing) {
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      document.getElementById(ROOM_FIELD_ID)?.focus();
    } else if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      step(chat, event.key === "ArrowDown" ? 1 : -1, event.shiftKey);
    } else if (
      event.key === "Escape" &&
      document.querySelector("dialog[open]") === null
    ) {
      chat.toNewest.value++;
      document.getElementById(MESSAGE_FIELD_ID)?.focus();
    }
  };
  window.addEventListener("keydown", listener);
  return () => window.removeEventListener("keydown", listener);
}

function step(chat: Chat, by: 1 | -1, unreadOnly: boolean): void {
  const rooms = chat.rooms.value;
  const here =
    chat.openRoom.value === undefined ? -1 : rooms.indexOf(chat.openRoom.value);
  for (let i = 1; i <= rooms.length; i++) {
    const room = rooms[(here + by * i + rooms.length * 2) % rooms.length];
    if (room !== undefined && (!unreadOnly || room.unread.value > 0)) {
      goTo(room.name);
      return;
    }
  }
}
