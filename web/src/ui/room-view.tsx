/** The open room: its heading, its messages, and the message box. */

import { useEffect, useRef } from "preact/hooks";
import type { Chat } from "../chat/chat";
import type { Room } from "../chat/room";
import { Composer } from "./composer";
import { ConnectionDot, stateInWords } from "./connection-notice";
import { Back, Close } from "./icons";
import { MessageList } from "./message-list";
import { PeopleButton, PeoplePanel } from "./people-panel";
import { goTo } from "./route";

interface Props {
  readonly chat: Chat;
  readonly room: Room;
}

export function RoomView({ chat, room }: Props) {
  const connection = chat.connection.state.value;
  const state = room.state.value;
  const elsewhere = chat.unread.value - room.unread.value;
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // Where nothing else takes it (see the composer), the focus begins at the heading.
    if (document.activeElement === document.body) {
      heading.current?.focus({ preventScroll: true });
    }
  }, []);
  const where = "gateway" in connection ? connection.gateway : "";
  return (
    <main class="room">
      <header class="room-header">
        <a class="icon-button back" href="#/" aria-label={backLabel(elsewhere)}>
          <Back />
          {elsewhere > 0 && <span class="back-dot" aria-hidden="true" />}
        </a>
        <h1 ref={heading} tabIndex={-1}>
          <span class="room-hash" aria-hidden="true">
            #
          </span>
          {room.name}
        </h1>
        <p class="where" title={stateInWords(connection)}>
          <ConnectionDot state={connection} />
          <span class="unseen">{stateInWords(connection)}: </span>
          <span data-testid="gateway">{where}</span>
        </p>
        <PeopleButton room={room} />
        <button
          type="button"
          class="icon-button"
          onClick={() => leave(chat, room)}
          aria-label={`Leave #${room.name}`}
          title={`Leave #${room.name}`}
        >
          <Close />
        </button>
      </header>
      {state.at === "refused" && (
        <div class="notice ended" role="alert">
          <p>This room is not open to you: {state.reason}.</p>
        </div>
      )}
      <div class="room-body">
        <div class="room-talk">
          <MessageList chat={chat} room={room} />
          <Composer chat={chat} room={room} />
        </div>
        <PeoplePanel chat={chat} room={room} />
      </div>
    </main>
  );
}

function leave(chat: Chat, room: Room): void {
  const unsent = chat.outbox.value.some((outgoing) => outgoing.room === room.name);
  const question = `Leave #${room.name}? What you wrote there and is not sent yet is lost.`;
  if ((unsent || room.draft.value.trim() !== "") && !window.confirm(question)) {
    return;
  }
  chat.leave(room.name);
  goTo(chat.rooms.value[0]?.name);
}

function backLabel(unreadElsewhere: number): string {
  return unreadElsewhere > 0 ? `All rooms, ${unreadElsewhere} unread` : "All rooms";
}
