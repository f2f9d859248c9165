/** Waiting for a turn, and behind a door. */

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
