import { expect, test } from "vitest";
import { Turns } from "../../src/upload/waiting";

/** Run jobs one after the other while one holds the only turn; returns whose they were, in order. */
async function order(jobs: readonly (readonly [of: string, left: number])[]): Promise<string> {
  const turns = new Turns(1);
  const ran: string[] = [];
  let open = (): void => undefined;
  const held = turns.run("holder", 0, () => new Promise<void>((done) => (open = done)));
  const all = jobs.map(([of, left]) => turns.run(of, left, () => Promise.resolve(void ran.push(of))));
  open();
  await Promise.all([held, ...all]);
  return ran.join(" ");
}

test("small files come first, and a large one after three of them at most", async () => {
  const small = Array.from({ length: 7 }, (_, index) => [`s${index}`, index + 1] as const);
  expect(await order([["L", 1000], ...small])).toBe("s0 s1 s2 L s3 s4 s5 s6");
});

test("the fourth turn goes to the file that has waited longest, whatever it has queued", async () => {
  const jobs = [
    ["A", 50],
    ["A", 50],
    ["A", 50],
    ["A", 50],
    ["A", 50],
    ["B", 90],
    ["C", 90],
  ] as const;
  expect(await order(jobs)).toBe("A A A B A A C");
});

test("a job that fails gives its turn to the next", async () => {
  const turns = new Turns(1);
  const failed = turns.run("a", 1, () => Promise.reject(new Error("no")));
  const next = turns.run("b", 1, () => Promise.resolve("ran"));
  await expect(failed).rejects.toThrow("no");
  expect(await next).toBe("ran");
});
