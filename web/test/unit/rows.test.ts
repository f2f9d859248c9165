import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { FileRecord } from "../../src/api";

vi.stubGlobal("document", { baseURI: "http://127.0.0.1:8000/" });
vi.stubGlobal("addEventListener", () => undefined);
vi.stubGlobal("removeEventListener", () => undefined);
const { Rows } = await import("../../src/files/rows");

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A service's list of records, the newest first, in pages; by status where one is asked for. */
function serve(records: { id: string; status: string }[]): void {
  vi.stubGlobal("fetch", (url: URL) => {
    const one = records.find(({ id }) => url.pathname === `/api/records/${id}`);
    if (one) return Promise.resolve(Response.json({ ...one, created_at: one.id, deleted_at: null }));
    if (url.pathname !== "/api/records") return Promise.resolve(new Response("{}", { status: 404 }));
    const [status, cursor] = [url.searchParams.get("status"), url.searchParams.get("cursor")];
    const fitting = records
      .filter((record) => status === null || record.status === status)
      .filter(({ id }) => cursor === null || id < cursor)
      .map((record) => ({ ...record, created_at: record.id, deleted_at: null }));
    const items = fitting.slice(0, Number(url.searchParams.get("limit")));
    const next = items.length < fitting.length ? items.at(-1)?.id : null;
    return Promise.resolve(Response.json({ items, next, left_out: 0 }));
  });
}

function records(count: number): FileRecord[] {
  return Array.from({ length: count }, (_, index) => ({
    id: String(count - index).padStart(4, "0"),
    status: "completed",
  })) as FileRecord[];
}

const ids = (all: readonly FileRecord[]): string[] => all.map(({ id }) => id);

test("a record that no longer fits the filters leaves the list, and whoever reads far below stays there", async () => {
  const all = records(450);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({ status: "completed" });
  await rows.more();
  expect(rows.items.length).toBe(400);
  const [first, , third] = all;
  if (first) first.status = "failed";
  await rows.refresh([first?.id ?? ""]);
  expect(ids(rows.items)).toEqual(ids(all.slice(1, 401)));
  expect(rows.hasMore).toBe(true);
  if (third) third.status = "failed";
  if (first) first.status = "completed";
  await rows.refresh(ids([first, third].filter((record) => record !== undefined)));
  expect(ids(rows.items)).toEqual(ids(all.filter((record) => record !== third).slice(0, 400)));
});

test("of many changed records below the first page none vanishes", async () => {
  const all = records(600);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({});
  await rows.more();
  await rows.more();
  const changed = all.slice(250, 550);
  for (const record of changed) record.status = "failed";
  await rows.refresh(ids(changed));
  expect(rows.items.map(({ id, status }) => [id, status])).toEqual(all.map(({ id, status }) => [id, status]));
});

test("a changed record below all that is here waits for its page", async () => {
  const all = records(300);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({});
  await rows.refresh(["0050"]);
  expect(ids(rows.items)).toEqual(ids(all.slice(0, 200)));
  await rows.more();
  expect(ids(rows.items)).toEqual(ids(all));
});

test("a list that is read anew while its next page comes asks for the next page of the new one", async () => {
  const all = records(500);
  serve(all);
  const answers: (() => void)[] = [];
  const serving = fetch;
  const rows = new Rows(() => undefined);
  await rows.reload({});
  vi.stubGlobal("fetch", async (url: URL) => {
    if (url.searchParams.has("cursor")) await new Promise<void>((answer) => answers.push(answer));
    return serving(url);
  });
  const dropped = rows.more();
  await rows.reload({});
  const asked = rows.more();
  expect(answers.length).toBe(2);
  for (const answer of answers) answer();
  await Promise.all([dropped, asked]);
  expect(ids(rows.items)).toEqual(ids(all.slice(0, 400)));
});

test("whoever hears of a page that came can ask for the one after it", async () => {
  const all = records(500);
  serve(all);
  const rows = new Rows(() => void rows.more());
  await rows.reload({});
  await vi.waitUntil(() => !rows.hasMore);
  expect(ids(rows.items)).toEqual(ids(all));
});

test("a page that does not come is asked for until it does", async () => {
  const all = records(300);
  serve(all);
  const serving = fetch;
  const waits: (string | undefined)[] = [];
  const rows = new Rows(
    () => undefined,
    (because) => waits.push(because?.name),
  );
  await rows.reload({});
  let tries = 0;
  vi.stubGlobal("fetch", (url: URL) => {
    tries += 1;
    if (tries === 1) return Promise.reject(new TypeError("the network is away"));
    return tries === 2 ? Promise.resolve(new Response("", { status: 503 })) : serving(url);
  });
  const coming = rows.more();
  await vi.waitUntil(() => tries === 1);
  await vi.advanceTimersByTimeAsync(60_000);
  await coming;
  expect(ids(rows.items)).toEqual(ids(all));
  expect(waits).toEqual(["Unreachable", "Problem", undefined]);
});

test("what happened is brought into the list also where the first answers about it fail", async () => {
  const all = records(3);
  serve(all.slice(1));
  const rows = new Rows(() => undefined);
  await rows.reload({});
  vi.stubGlobal("fetch", () => Promise.resolve(new Response("", { status: 503 })));
  const coming = rows.refresh([all[0]?.id ?? ""]);
  await vi.advanceTimersByTimeAsync(5000);
  serve(all);
  await vi.advanceTimersByTimeAsync(60_000);
  await coming;
  expect(ids(rows.items)).toEqual(ids(all));
});

test("what happened while a list was on its way is in the list, whichever answer comes first", async () => {
  const all = records(3);
  const rows = new Rows(() => undefined);
  serve(all.slice(1));
  await rows.reload({});
  const old = fetch;
  let answer = (): void => undefined;
  vi.stubGlobal("fetch", async (url: URL) => {
    const before = await old(url);
    await new Promise<void>((come) => (answer = come));
    return before;
  });
  const reloading = rows.reload({});
  await vi.advanceTimersByTimeAsync(0);
  serve(all);
  const refreshing = rows.refresh([all[0]?.id ?? ""]);
  await vi.advanceTimersByTimeAsync(0);
  answer();
  await Promise.all([reloading, refreshing]);
  expect(ids(rows.items)).toEqual(ids(all));
});

test("a list that is replaced while it is asked about what happened is asked again", async () => {
  const all = records(3);
  const rows = new Rows(() => undefined);
  serve(all.slice(1));
  await rows.reload({});
  const old = fetch;
  serve(all);
  const answers: (() => void)[] = [];
  const serving = fetch;
  vi.stubGlobal("fetch", async (url: URL) => {
    if (url.pathname === "/api/records") return old(url);
    await new Promise<void>((come) => answers.push(come));
    return serving(url);
  });
  const refreshing = rows.refresh([all[0]?.id ?? ""]);
  await vi.advanceTimersByTimeAsync(0);
  await rows.reload({});
  for (let turn = 0; turn < 2; turn += 1) {
    await vi.waitUntil(() => answers.length > 0);
    answers.shift()?.();
  }
  await refreshing;
  expect(ids(rows.items)).toEqual(ids(all));
});

test("read again, the list is as long as it was", async () => {
  const all = records(500);
  serve(all);
  const rows = new Rows(() => undefined);
  await rows.reload({});
  await rows.more();
  await rows.readAgain();
  expect(ids(rows.items)).toEqual(ids(all.slice(0, 400)));
  expect(rows.hasMore).toBe(true);
});

test("filters that the service refuses leave the list as it was, with its next page", async () => {
  const all = records(300);
  serve(all);
  const serving = fetch;
  const rows = new Rows(() => undefined);
  await rows.reload({});
  vi.stubGlobal("fetch", (url: URL) =>
    url.searchParams.has("name") ? Promise.resolve(new Response("{}", { status: 422 })) : serving(url),
  );
  await expect(rows.reload({ name: "bad" })).rejects.toThrow();
  await rows.more();
  expect(ids(rows.items)).toEqual(ids(all));
});
