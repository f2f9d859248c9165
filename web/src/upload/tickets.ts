/** What is kept of each upload's session, so that it is gone on with after a reload.
 *
 * Golden Retriever keeps files and writes twice a second; a session is kept at once, or a reload just after its begin
 * would begin another one.
 */
import type { Problem } from "../api";
import { browserStore } from "../store";
import type { Ticket } from "./session";

/** A problem as it is kept. */
export type Refusal = Pick<Problem, "status" | "type" | "title" | "detail" | "members">;

export interface Kept {
  /** The idempotency key, kept before it is sent. */
  key: string;
  /** Whether the file was sent under this key in one request, of which there was no answer yet. */
  whole?: boolean;
  /** What the service had against it for good: its key may begin another one, which would be refused as well. */
  refused?: Refusal;
  /** The session, once its begin was answered. */
  ticket: Ticket | null;
  /** When it was begun, in milliseconds; see LASTS_MS. */
  since: number;
}

const PREFIX = "haulier.session.";
/** The service forgets a session that stood still for so long. */
const LASTS_MS = 24 * 60 * 60 * 1000;

/** Return what is kept of a file's session; null when there is none. */
export function keptOf(fileId: string): Kept | null {
  const text = browserStore.get(PREFIX + fileId);
  return text === null ? null : (JSON.parse(text) as Kept);
}

/** Keep it. Where the browser refuses, a reload begins anew. */
export function keep(fileId: string, kept: Kept): void {
  browserStore.set(PREFIX + fileId, JSON.stringify(kept));
}

export function forget(fileId: string): void {
  browserStore.remove(PREFIX + fileId);
}

/** Forget what the service has forgotten. */
export function forgetOld(now: number): void {
  for (const id of browserStore.names(PREFIX).map((name) => name.slice(PREFIX.length))) {
    const kept = keptOf(id);
    if (kept && now - kept.since > LASTS_MS) forget(id);
  }
}
