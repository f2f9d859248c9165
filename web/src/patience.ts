/** Asking until there is an answer that stands: for people, who should not have to press anything. */
import { Problem, Unreachable } from "./api";

/** Told while nobody answers, and again (with null) when that is over. */
export type OnWait = (because: Problem | Unreachable | null) => void;

/** Ask until the network is there and the service is neither away nor busy.
 *
 * Throws the Problem of a service that refuses for good, or the reason of the signal.
 */
export async function persistently<T>(
  attempt: () => Promise<T>,
  signal: AbortSignal,
  onWait: OnWait,
): Promise<T> {
  let told = false;
  try {
    for (let tries = 0; ; tries += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (!isPassing(error)) throw error;
        told = true;
        onWait(error);
        await pause(patience(tries, error instanceof Problem ? error.retryAfter : null), signal);
      }
    }
  } finally {
    if (told) onWait(null);
  }
}

/** Whether the same may succeed later without anybody doing anything. */
export function isPassing(error: unknown): error is Problem | Unreachable {
  return error instanceof Unreachable || (error instanceof Problem && error.passing);
}

/** Wait so long, or until the browser says that the network is back; throws the reason of the signal. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal.removeEventListener("abort", end);
      if (signal.aborted) reject(signal.reason as Error);
      else resolve();
    };
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}

/** The longest that the service may ask to be left alone; somebody may be at the page. */
const RETRY_AFTER_S = 300;

/** How long to wait before the nth try (from 0): half a second, then twice as long each time, up to ten seconds; longer
 * where the service says so. */
export function patience(tries: number, retryAfter: number | null): number {
  return Math.max(
    Math.min(500 * 2 ** Math.min(tries, 10), 10_000),
    Math.min(retryAfter ?? 0, RETRY_AFTER_S) * 1000,
  );
}
