/** Waiting that a signal ends: for a turn, for time, for the network. */

/** Lets a bounded number of jobs run at once, first come, first served. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await job();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** A door that can be shut: a paused upload waits behind it. */
export class Door {
  #opened: Promise<void> = Promise.resolve();
  #open: (() => void) | null = null;

  shut(): void {
    if (this.#open === null) this.#opened = new Promise((resolve) => (this.#open = resolve));
  }

  open(): void {
    this.#open?.();
    this.#open = null;
  }

  passed(): Promise<void> {
    return this.#opened;
  }
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

/** How long to wait before the nth try (from 0): half a second, then twice as long each time, up to ten seconds. */
export function patience(tries: number, retryAfter: number | null): number {
  return Math.max(Math.min(500 * 2 ** Math.min(tries, 10), 10_000), (retryAfter ?? 0) * 1000);
}
