/** Who is in the open room: here, away, or gone while one watched. */

import type { Chat } from "../chat/chat";
import type { Room } from "../chat/room";
import { inOrder, type Members, type Person } from "../model/members";
import { AGENT_PREFIX } from "../model/run-events";
import { Avatar } from "./avatar";
import { Close, People } from "./icons";
import { peopleShown, showPeople } from "./preferences";
import { statusInWords } from "./run-view";
import { recently } from "./times";

/** Opens and closes the list; says how many there are. */
export function PeopleButton({ room }: { room: Room }) {
  const members = room.attendance.members.value;
  const shown = peopleShown.value;
  return (
    <button
      type="button"
      class="people-button"
      aria-expanded={shown}
      aria-controls="people"
      title={shown ? "Hide who is here" : "Show who is here"}
      onClick={() => showPeople(!shown)}
    >
      <People />
      <span data-testid="people-count">
        {members.known || members.large ? countInWords(members.users) : "–"}
      </span>
      <span class="unseen">
        {members.users === 1 ? "person" : "people"} here: {shown ? "hide" : "show"} them
      </span>
    </button>
  );
}

export function PeoplePanel({ chat, room }: { chat: Chat; room: Room }) {
  const { attendance } = room;
  const members = attendance.members.value;
  if (!peopleShown.value) {
    return null;
  }
  return (
    <aside id="people" class="people" aria-labelledby="people-title">
      <header>
        <h2 id="people-title">
          People{" "}
          {members.known && <span class="count">{countInWords(members.users)}</span>}
        </h2>
        <button
          type="button"
          class="icon-button"
          aria-label="Hide the people"
          onClick={() => showPeople(false)}
        >
          <Close />
        </button>
      </header>
      <div class="people-scroll">
        {!members.known && (
          <p class="note quiet" role="status">
            {attendance.unknown.value
              ? "Who is here cannot be said just now."
              : "Looking who is here …"}
          </p>
        )}
        <ul aria-label="Here now">
          {inOrder(members, chat.me).map((person) => (
            <PersonLine key={person.user} person={person} me={chat.me} />
          ))}
        </ul>
        <Rest members={members} />
        <AgentsHere room={room} />
        <Gone members={members} />
      </div>
    </aside>
  );
}

function PersonLine({ person, me }: { person: Person; me: string }) {
  const { user, away, status, doNotDisturb, connections } = person;
  const state = away ? "away" : doNotDisturb ? "busy" : "online";
  const words = away
    ? "Away"
    : doNotDisturb
      ? "Do not disturb"
      : connections > 1
        ? `${connections} devices`
        : "";
  return (
    <li class="person" data-user={user} data-state={state}>
      <span class="person-sign">
        <Avatar user={user} small />
        <span class={`presence ${state}`} aria-hidden="true" />
      </span>
      <span class="person-name">
        {user}
        {user === me && <span class="you">you</span>}
      </span>
      {(status !== "" || words !== "") && (
        <span class="person-status" title={status}>
          {status !== "" ? status : words}
          {status !== "" && words !== "" && <span class="unseen">, {words}</span>}
        </span>
      )}
      {words === "" && <span class="unseen">, online</span>}
    </li>
  );
}

function AgentsHere({ room }: { room: Room }) {
  const faces = room.agents.faces.value ?? [];
  const runs = [...room.agents.runs.value.live.values()];
  if (faces.length === 0) {
    return null;
  }
  return (
    <>
      <h3>Agents</h3>
      <ul aria-label="Agents">
        {faces.map(({ name, title, picture }) => {
          const run = runs.find(({ face }) => face.name === name);
          return (
            <li key={name} class="person" data-agent={name}>
              <span class="person-sign">
                <Avatar user={`${AGENT_PREFIX}${name}`} picture={picture} small />
              </span>
              <span class="person-name">{title}</span>
              <span class="person-status">
                {run === undefined ? `Write @${name} to ask` : statusInWords(run)}
              </span>
            </li>
          );
        })}
      </ul>
    </>
  );
}

function Rest({ members }: { members: Members }) {
  const rest = members.users - members.here.size;
  if (!members.known || rest <= 0) {
    return null;
  }
  return (
    <p class="note quiet">
      and {countInWords(rest)} more.
      {members.large && " In a room this large, coming and going is only counted."}
    </p>
  );
}

function Gone({ members }: { members: Members }) {
  if (members.gone.size === 0) {
    return null;
  }
  const latestFirst = [...members.gone].reverse();
  return (
    <>
      <h3>Were here</h3>
      <ul aria-label="Were here">
        {latestFirst.map(([user, atMs]) => (
          <li key={user} class="person gone" data-user={user} data-state="gone">
            <span class="person-sign">
              <Avatar user={user} small />
            </span>
            <span class="person-name">{user}</span>
            <span class="person-status">Last seen {recently(atMs, Date.now())}</span>
          </li>
        ))}
      </ul>
    </>
  );
}

const COUNT = new Intl.NumberFormat();

function countInWords(count: number): string {
  return COUNT.format(count);
}
