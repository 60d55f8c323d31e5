/** What this browser's user prefers to see, over all rooms. */

import { signal } from "@preact/signals";
import { preference } from "../chat/storage";

/** Wide enough for the people beside the messages; the style sheets know it too. */
const ROOMY = "(min-width: 1080px)";

const developerKept = preference("developer");
const peopleKept = preference("people");

/** Show what only somebody who builds with this wants to know. */
export const developer = signal(developerKept.get() ?? false);
/** The list of people beside the messages. */
export const peopleShown = signal(peopleKept.get() ?? matchMedia(ROOMY).matches);

export function setDeveloper(on: boolean): void {
  developer.value = on;
  developerKept.set(on);
}

export function showPeople(shown: boolean): void {
  peopleShown.value = shown;
  // On a narrow screen it covers the messages: that is for now, not for good.
  if (matchMedia(ROOMY).matches) {
    peopleKept.set(shown);
  }
}
