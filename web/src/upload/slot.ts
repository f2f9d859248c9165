/** Which of the stores of unfinished uploads a tab uses.
 *
 * Each tab has its own, else tabs would take each other's uploads for their own. A tab that is reloaded gets the one it
 * had; a new tab gets one that a closed tab has left unfinished, else the first that is free.
 * Rule 1: a store is a tab's for as long as the tab holds its lock.
 * Rule 2: nobody is shown what another person, who was signed in here, has left.
 * Rule 3: where there are no locks (plain http names) a store is known to one tab only.
 */
import { browserStore, tabStore } from "../store";

const MINE = "haulier.slot";
const UNFINISHED = "haulier.unfinished.";
/** Tabs that can upload at once and be restored; more would not fit on a screen. */
const SLOTS = 64;
/** How long a tab that was just reloaded waits for its own old self to let go. */
const OWN_TIMEOUT_MS = 2000;

/** Take a store; returns its name. It is held until the tab ends. */
export async function takeSlot(person: string | null): Promise<string> {
  const prefix = person === null ? "haulier" : `haulier-${encodeURIComponent(person)}`;
  const had = tabStore.get(MINE);
  const mine = had?.slice(0, had.lastIndexOf("-")) === prefix ? had : null;
  if (!("locks" in navigator)) return mine ?? slotWithoutLocks(prefix);
  if (mine !== null && (await hold(mine, AbortSignal.timeout(OWN_TIMEOUT_MS)))) return mine;
  for (const slot of candidates(prefix)) {
    if (await hold(slot)) {
      tabStore.set(MINE, slot);
      return slot;
    }
  }
  return slotWithoutLocks(prefix);
}

/** Remember whether a store has something to go on with. */
export function markUnfinished(slot: string, unfinished: boolean): void {
  if (unfinished) browserStore.set(UNFINISHED + slot, "1");
  else browserStore.remove(UNFINISHED + slot);
}

function candidates(prefix: string): string[] {
  const all = Array.from({ length: SLOTS }, (_, index) => `${prefix}-${index}`);
  const left = all.filter((slot) => browserStore.get(UNFINISHED + slot) !== null);
  return [...left, ...all.filter((slot) => !left.includes(slot))];
}

/** Whether the lock of a store was got; where a signal is given it is waited for. */
function hold(slot: string, signal?: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const held = (lock: Lock | null): Promise<void> => {
      resolve(lock !== null);
      return lock === null ? Promise.resolve() : new Promise(() => undefined);
    };
    navigator.locks
      .request(slot, signal ? { signal } : { ifAvailable: true }, held)
      .catch(() => resolve(false));
  });
}

function slotWithoutLocks(prefix: string): string {
  const slot = `${prefix}-${String(Math.random()).slice(2)}`;
  tabStore.set(MINE, slot);
  return slot;
}
