/** The list of files under the hands of somebody, while things happen to it. */
import { expect, test } from "vitest";
import type { Page } from "playwright-core";
import { rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

const names = (page: Page): Promise<string[]> => rows(page).locator(".filename").allTextContents();
const row = (page: Page, name: string) => rows(page).filter({ hasText: name });
/** The name of the file whose row has the focus. */
const focused = (page: Page) => page.locator("#files .row:focus .filename");

async function send(...files: string[]): Promise<void> {
  for (const name of files) await world.service.put(name, name);
}

/** An upload that has begun. */
async function begin(filename: string): Promise<string> {
  const begun = await fetch(`${world.service.url}/api/uploads`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ filename, size: 3 }),
  });
  return ((await begun.json()) as { id: string }).id;
}

async function end(id: string): Promise<void> {
  await fetch(`${world.service.url}/api/uploads/${id}/chunks/0`, { method: "PUT", body: "abc" });
  await fetch(`${world.service.url}/api/uploads/${id}/finish`, { method: "POST" });
}

/** Open what is shown of a file by the keyboard. */
async function open(page: Page, name: string, place: number): Promise<void> {
  await page.getByRole("grid").focus();
  for (let presses = 0; presses <= place; presses += 1) await page.keyboard.press("ArrowDown");
  await expect.poll(() => focused(page).textContent()).toBe(name);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("heading", { name }).waitFor();
}

async function goesOn(page: Page, at: string, next: string): Promise<void> {
  await expect.poll(() => focused(page).allTextContents()).toEqual([at]);
  await page.keyboard.press("ArrowDown");
  await expect.poll(() => focused(page).allTextContents()).toEqual([next]);
}

test("the keyboard goes on where it was when something came while a file was open", async () => {
  await send("came-1.txt", "came-2.txt", "came-3.txt");
  const page = await world.page({}, "#files?name=came-");
  await row(page, "came-1.txt").waitFor();
  await open(page, "came-2.txt", 1);
  await send("came-4.txt");
  await row(page, "came-4.txt").waitFor({ state: "attached" });
  await page.keyboard.press("Escape");
  await goesOn(page, "came-2.txt", "came-1.txt");
});

test("the keyboard goes on where it was when the very file changed while it was open", async () => {
  await send("changed-1.txt");
  const upload = await begin("changed-2.txt");
  const page = await world.page({}, "#files?name=changed-");
  await row(page, "changed-1.txt").waitFor();
  await open(page, "changed-2.txt", 0);
  await end(upload);
  await row(page, "changed-2.txt").filter({ hasText: "completed" }).waitFor({ state: "attached" });
  await page.keyboard.press("Escape");
  await goesOn(page, "changed-2.txt", "changed-1.txt");
});

test("the keyboard goes on at the next file when the very file was deleted while it was open", async () => {
  await send("deleted-1.txt", "deleted-2.txt");
  const { id } = await world.service.put("deleted-3.txt", "x");
  await send("deleted-4.txt");
  const page = await world.page({}, "#files?name=deleted-");
  await row(page, "deleted-1.txt").waitFor();
  await open(page, "deleted-3.txt", 1);
  await fetch(`${world.service.url}/api/records/${id}`, { method: "DELETE" });
  await page.getByText("deleted-3.txt was deleted.").waitFor();
  await goesOn(page, "deleted-2.txt", "deleted-1.txt");
});

test("the keyboard goes on at the next file when one no longer fits the filters while it is open", async () => {
  await send("left-1.txt", "left-2.txt");
  const others = [await begin("left-3.txt"), await begin("left-4.txt"), await begin("left-5.txt")];
  const page = await world.page({}, "#files?name=left-&status=uploading");
  await row(page, "left-3.txt").waitFor();
  await open(page, "left-4.txt", 1);
  await end(others[1] ?? "");
  await row(page, "left-4.txt").waitFor({ state: "detached" });
  await page.keyboard.press("Escape");
  await expect.poll(() => focused(page).allTextContents()).toEqual(["left-3.txt"]);
});

test("the keyboard goes on where it was, and is seen, when new files have pushed it out of sight", async () => {
  await send("pushed-1.txt", "pushed-2.txt");
  const page = await world.page({ viewport: { width: 800, height: 500 } }, "#files?name=pushed-");
  await row(page, "pushed-1.txt").waitFor();
  await open(page, "pushed-2.txt", 0);
  const many = Array.from({ length: 40 }, (_, index) => `pushed-later-${index}.txt`);
  await Promise.all(many.map((name) => send(name)));
  await expect.poll(() => page.locator("#files .table").getAttribute("aria-rowcount")).toBe("43");
  await page.keyboard.press("Escape");
  await expect.poll(() => focused(page).allTextContents()).toEqual(["pushed-2.txt"]);
  const [list, at] = [
    await page.getByRole("grid").boundingBox(),
    await page.locator("#files .row:focus").boundingBox(),
  ];
  expect(at && list && at.y >= list.y && at.y + at.height <= list.y + list.height).toBe(true);
  await goesOn(page, "pushed-2.txt", "pushed-1.txt");
});

test("the keyboard stays in the list when others delete the file that it is at", async () => {
  await send("there-1.txt");
  const { id } = await world.service.put("there-2.txt", "x");
  await send("there-3.txt");
  const page = await world.page({}, "#files?name=there-");
  await row(page, "there-2.txt").focus();
  await fetch(`${world.service.url}/api/records/${id}`, { method: "DELETE" });
  await row(page, "there-2.txt").waitFor({ state: "detached" });
  await expect.poll(() => focused(page).allTextContents()).toEqual(["there-1.txt"]);
  for (const name of ["there-1.txt", "there-3.txt"]) {
    const [record] = await world.service.records({ name });
    await fetch(`${world.service.url}/api/records/${record?.id ?? ""}`, { method: "DELETE" });
    await row(page, name).waitFor({ state: "detached" });
  }
  await page.locator("#files .table:focus").waitFor();
});

test("rows are in the document as they are seen, and stay the elements that they are", async () => {
  const all = Array.from({ length: 80 }, (_, index) => `order-${String(index).padStart(2, "0")}.txt`);
  await send(...all);
  const page = await world.page({ viewport: { width: 800, height: 600 } }, "#files?name=order-");
  await row(page, "order-79.txt").waitFor();
  const asSeen = async (): Promise<string[]> => {
    const boxes = await rows(page).evaluateAll((elements) =>
      elements.map((element) => ({
        top: element.getBoundingClientRect().top,
        name: element.querySelector(".filename")?.textContent ?? "",
      })),
    );
    return boxes.sort((one, other) => one.top - other.top).map(({ name }) => name);
  };
  const scroll = async (part: number, shown: string): Promise<void> => {
    await page.locator("#files .table").evaluate((table, to) => {
      table.scrollTop = to * table.scrollHeight;
    }, part);
    await row(page, shown).waitFor({ state: "attached" });
    expect(await names(page)).toEqual(await asSeen());
  };
  await row(page, "order-78.txt").focus();
  await row(page, "order-78.txt").evaluate((element) => Object.assign(window, { kept: element }));
  await scroll(0.5, "order-40.txt");
  await scroll(1, "order-00.txt");
  await scroll(0.6, "order-31.txt");
  await scroll(0, "order-79.txt");
  await send("order-80.txt");
  await row(page, "order-80.txt").waitFor({ state: "attached" });
  expect(await names(page)).toEqual(await asSeen());
  expect((await names(page)).slice(0, 3)).toEqual(["order-80.txt", "order-79.txt", "order-78.txt"]);
  const same = await row(page, "order-78.txt").evaluate(
    (element) =>
      element === (window as unknown as { kept: Element }).kept && element === document.activeElement,
  );
  expect(same).toBe(true);
});

test("a link that was made of a file stays, with the focus, while the list and the file change", async () => {
  await send("link-1.txt");
  const page = await world.page({}, "#files?name=link-");
  await open(page, "link-1.txt", 0);
  await page.getByRole("button", { name: "Make a link" }).click();
  const address = page.getByLabel("Link", { exact: true });
  await address.focus();
  const made = await address.inputValue();
  await send("link-2.txt");
  await row(page, "link-2.txt").waitFor({ state: "attached" });
  expect(await address.inputValue()).toBe(made);
  await page.locator("#files input:focus").waitFor();
});

test("what is shown of a file follows it, and leaves the focus where it is", async () => {
  const upload = await begin("followed.txt");
  const page = await world.page({}, "#files?name=followed");
  await open(page, "followed.txt", 0);
  const close = page.getByRole("dialog").getByRole("button", { name: "Close" });
  expect(await close.evaluate((button) => button === document.activeElement)).toBe(true);
  await end(upload);
  await page.getByRole("dialog").getByRole("link", { name: "Download" }).waitFor();
  await page.getByRole("dialog").getByText("completed", { exact: true }).waitFor();
  expect(await close.evaluate((button) => button === document.activeElement)).toBe(true);
});

test("going back closes what is open of a file, and the page can be used", async () => {
  await send("back-1.txt");
  const page = await world.page({}, "#upload");
  const [upload, files] = ["Upload", "Files"].map((name) => page.getByRole("link", { name }));
  await files?.click();
  await row(page, "back-1.txt").click();
  await page.getByRole("dialog").waitFor();
  await page.goBack();
  await page.getByText("Drop files here").waitFor();
  await files?.click();
  await row(page, "back-1.txt").waitFor();
  expect(await page.getByRole("dialog").count()).toBe(0);
  await upload?.click();
});
