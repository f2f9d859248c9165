/** Waiting for a turn, and behind a door. */

interface Waiting {
  of: string;
  left: number;
  /** The turn at which its file came, or had one last. */
  since: number;
  go: () => void;
}

/** Turns that go to somebody else than whoever has least left. */
const EVERY = 4;

/** Lets a bounded number of jobs of files run at once.
 *
 * Three of four turns go to the file of which least is left, so that small ones are not kept behind large ones; the fourth
 * goes to the file that has waited longest, so that a large one is not kept behind many small ones.
 */
export class Turns {
  #free: number;
  #turn = 0;
  readonly #waiting: Waiting[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  /** Run a job of a file once it has its turn; `left`: bytes that the file still lacks. */
  async run<T>(of: string, left: number, job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((go) => this.#waiting.push({ of, left, since: this.#turn, go }));
    try {
      return await job();
    } finally {
      this.#give();
    }
  }

  #give(): void {
    if (this.#waiting.length === 0) {
      this.#free += 1;
      return;
    }
    this.#turn += 1;
    const rank = this.#turn % EVERY === 0 ? longest : least;
    const next = this.#waiting.reduce((best, other) => (rank(other) < rank(best) ? other : best));
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    for (const other of this.#waiting) if (other.of === next.of) other.since = this.#turn;
    next.go();
  }
}

function least({ left }: Waiting): number {
  return left;
}

function longest({ since }: Waiting): number {
  return since;
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
