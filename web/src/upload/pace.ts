/** How fast requests with bytes were of late, and what size of chunks suits that. */
import { tabStore } from "../store";

const PACE = "haulier.pace";
/** Smaller requests tell more of the way to the service and back than of its width. */
const TELLING = 64 * 1024;
/** Seconds that a chunk may take: what a cut connection costs at most. */
const CHUNK_S = 20;
/** How much slower than of late a link may be. */
const LENIENT = 6;
const LONGEST_MS = 15 * 60 * 1000;
/** What the service takes for a chunk. */
const STEP = 256 * 1024;

/** Note that so many bytes took so long. */
export function notePace(bytes: number, milliseconds: number): void {
  if (bytes < TELLING) return;
  const now = (bytes * 1000) / Math.max(milliseconds, 1);
  const before = pace();
  tabStore.set(PACE, String(before === null ? now : (before + now) / 2));
}

/** Note that so many bytes did not get there in so long: nobody knows how much slower than that it is. */
export function noteGivenUp(bytes: number, milliseconds: number): void {
  if (bytes < TELLING) return;
  const most = (bytes * 1000) / Math.max(milliseconds, 1);
  tabStore.set(PACE, String(Math.min(pace() ?? most, most) / 2));
}

/** Milliseconds that bytes may need to arrive; nothing while nobody knows how fast the link is. */
export function deliveryMs(bytes: number): number {
  const now = pace();
  return now === null ? 0 : Math.min((LENIENT * bytes * 1000) / now, LONGEST_MS);
}

/** The size of chunks that suits the link: the usual one, or less where that would take too long. */
export function suitable(usual: number): number {
  const now = pace();
  if (now === null) return usual;
  return Math.min(usual, Math.max(1, Math.floor((now * CHUNK_S) / STEP)) * STEP);
}

/** Bytes per second of one request; null while nobody knows. */
function pace(): number | null {
  const known = Number(tabStore.get(PACE) ?? NaN);
  return Number.isFinite(known) ? known : null;
}
