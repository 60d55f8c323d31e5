/** The message box. Enter sends, Shift + Enter starts a new line, drafts stay. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Chat } from "../chat/chat";
import type { Room } from "../chat/room";
import { completed, type Mentionable, mentionAt, suggested } from "../model/mentions";
import { AGENT_PREFIX } from "../model/run-events";
import { Avatar } from "./avatar";
import { Send } from "./icons";
import { MESSAGE_FIELD_ID } from "./shortcuts";

/** The mesh takes 64 KiB a command; this leaves room for what goes around the text. */
const TEXT_BYTES_MAX = 60 * 1024;
/** From here on, say how much is left. */
const NEARLY_FULL = 0.8;

export function Composer({ chat, room }: { chat: Chat; room: Room }) {
  const box = useRef<HTMLTextAreaElement>(null);
  const text = room.draft.value;
  const bytes = sizeOf(text);
  const tooLong = bytes > TEXT_BYTES_MAX;
  const refused = room.state.value.at === "refused";
  const sendable = text.trim() !== "" && !tooLong && !refused;

  const [cursor, setCursor] = useState(0);
  /** The mention that one does not want help with. */
  const [dismissed, setDismissed] = useState<number>();
  const [picked, setPicked] = useState(0);
  const mention = mentionAt(text, cursor);
  const helped = mention !== undefined && mention.from !== dismissed;
  const names = helped ? suggested(mention, mentionable(chat, room)) : [];
  const chosen = names[Math.min(picked, names.length - 1)];

  const complete = (name: string) => {
    if (mention !== undefined && box.current !== null) {
      const { text: written, cursor: end } = completed(text, mention, name);
      room.setDraft(written);
      // At once, so that the cursor has somewhere to go.
      box.current.value = written;
      box.current.setSelectionRange(end, end);
      box.current.focus();
      setCursor(end);
      setPicked(0);
    }
  };
  /** Keys that choose a name; false when this is none. */
  const choose = (key: string): boolean => {
    if (chosen === undefined) {
      return false;
    }
    switch (key) {
      case "ArrowDown":
      case "ArrowUp": {
        const step = key === "ArrowDown" ? 1 : names.length - 1;
        setPicked((Math.min(picked, names.length - 1) + step) % names.length);
        return true;
      }
      case "Enter":
      case "Tab":
        complete(chosen.name);
        return true;
      case "Escape":
        setDismissed(mention?.from);
        return true;
      default:
        return false;
    }
  };

  useEffect(() => {
    // On a phone this would open the keyboard over the messages one came to read.
    if (matchMedia("(hover: hover) and (pointer: fine)").matches) {
      box.current?.focus({ preventScroll: true });
    }
  }, []);

  useLayoutEffect(() => {
    // `text` is here because it decides the height. Browsers that size the field by its
    // content need no help.
    const field = box.current;
    if (field !== null && !CSS.supports("field-sizing", "content")) {
      field.style.height = "auto";
      field.style.height = `${field.scrollHeight}px`;
    }
  }, [text]);

  const send = () => {
    if (sendable) {
      chat.send(room, text.trim());
      room.setDraft("");
    }
  };

  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
        box.current?.focus();
      }}
    >
      <div class="composer-box">
        {chosen !== undefined && (
          <Suggestions names={names} chosen={chosen} onChoose={complete} />
        )}
        <textarea
          id={MESSAGE_FIELD_ID}
          ref={box}
          rows={1}
          value={text}
          disabled={refused}
          placeholder={`Message #${room.name}`}
          aria-label={`Message #${room.name}`}
          aria-describedby="composer-note"
          aria-invalid={tooLong}
          enterkeyhint="send"
          aria-autocomplete="list"
          aria-controls={chosen === undefined ? undefined : SUGGESTIONS_ID}
          aria-activedescendant={
            chosen === undefined ? undefined : `${SUGGESTIONS_ID}-${chosen.name}`
          }
          onInput={(event) => {
            room.setDraft(event.currentTarget.value);
            setCursor(event.currentTarget.selectionStart);
            setPicked(0);
          }}
          onSelect={(event) => setCursor(event.currentTarget.selectionStart)}
          onBlur={() => setDismissed(mention?.from)}
          onKeyDown={(event) => {
            if (!event.isComposing && !event.shiftKey && choose(event.key)) {
              event.preventDefault();
              event.stopPropagation();
              return;
            }
            // Enter that ends the choice of a character in an input method is not ours.
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              send();
            }
          }}
        />
        <button
          type="submit"
          class="send"
          disabled={!sendable}
          aria-label="Send"
          title="Send"
        >
          <Send />
        </button>
      </div>
      <div class="composer-foot">
        <p class="activity" data-slot="activity">
          {room.attendance.typingWords}
        </p>
        <p id="composer-note" class={tooLong ? "note trouble" : "note quiet"}>
          {bytes > TEXT_BYTES_MAX * NEARLY_FULL ? (
            <span role="status">{lengthInWords(bytes)}</span>
          ) : (
            <span class="wide-only">
              <kbd>Enter</kbd> sends, <kbd>Shift + Enter</kbd> starts a new line
            </span>
          )}
        </p>
      </div>
    </form>
  );
}

const SUGGESTIONS_ID = "mentions";

function Suggestions(props: {
  readonly names: readonly Mentionable[];
  readonly chosen: Mentionable;
  readonly onChoose: (name: string) => void;
}) {
  const { names, chosen, onChoose } = props;
  return (
    <div id={SUGGESTIONS_ID} class="suggestions" role="listbox" aria-label="Mention">
      {names.map((each) => (
        // biome-ignore lint/a11y/useKeyWithClickEvents: the field has the keys
        // biome-ignore lint/a11y/useFocusableInteractive: the focus stays in the field
        <div
          key={each.name}
          id={`${SUGGESTIONS_ID}-${each.name}`}
          class="suggestion"
          role="option"
          aria-selected={each === chosen}
          // The field would lose the focus, and this with it.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => onChoose(each.name)}
        >
          <Avatar
            user={each.agent ? `${AGENT_PREFIX}${each.name}` : each.name}
            picture={each.picture}
            small
          />
          <span>{each.title}</span>
          <small>{each.agent ? "agent" : ""}</small>
        </div>
      ))}
    </div>
  );
}

function mentionable(chat: Chat, room: Room): Mentionable[] {
  const agents = (room.agents.faces.value ?? []).map(({ name, title, picture }) => {
    return { name, title, picture, agent: true };
  });
  const people = [...room.attendance.members.value.here.keys()]
    .filter((user) => user !== chat.me)
    .map((user) => ({ name: user, title: user, picture: "", agent: false }));
  return [...agents, ...people];
}

/** Bytes as they will stand in the command, where quotes and newlines take two. */
function sizeOf(text: string): number {
  return new TextEncoder().encode(JSON.stringify(text)).length;
}

function lengthInWords(bytes: number): string {
  const left = TEXT_BYTES_MAX - bytes;
  return left < 0 ? `${-left} bytes too long` : `${left} bytes left`;
}
