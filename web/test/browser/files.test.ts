import { expect, test } from "vitest";
import { readFileSync } from "node:fs";
import { chooser, rows } from "./browser";
import { makeWorld } from "./world";

const world = makeWorld();

test("what others send appears, and what they delete goes, without a reload", async () => {
  const page = await world.page({}, "#files");
  await page.getByRole("grid", { name: "Files" }).waitFor();
  const record = await world.service.put("theirs.txt", "theirs");
  const row = rows(page).filter({ hasText: "theirs.txt" });
  await row.waitFor();
  await fetch(`${world.service.url}/api/records/${record.id}`, { method: "DELETE" });
  await row.waitFor({ state: "detached" });
});

test("what was deleted comes back with Undo", async () => {
  const record = await world.service.put("undo.txt", "undo");
  const page = await world.page({}, "#files");
  const row = rows(page).filter({ hasText: "undo.txt" });
  await row.click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await row.waitFor({ state: "detached" });
  expect((await world.service.records({ deleted: "true" })).map(({ id }) => id)).toContain(record.id);
  await page.getByRole("button", { name: "Undo" }).click();
  await row.waitFor();
  expect((await world.service.records()).map(({ id }) => id)).toContain(record.id);
});

test("Undo waits for whoever is at it, and goes when nobody is", async () => {
  await world.service.put("slowly.txt", "x");
  const page = await world.page({}, "#files?name=slowly");
  await page.clock.install();
  await rows(page).first().focus();
  await page.keyboard.press("Delete");
  const undo = page.getByRole("button", { name: "Undo" });
  await undo.focus();
  await page.clock.runFor(20_000);
  await undo.press("Enter");
  await page.getByText("slowly.txt is back.").waitFor();
  // The keyboard goes on at the file: the button is gone.
  await page.locator("#files .row:focus").filter({ hasText: "slowly.txt" }).waitFor();
  await page.clock.runFor(20_000);
  await page.getByText("slowly.txt is back.").waitFor({ state: "detached" });
});

test("filters narrow the list, and a reload keeps them", async () => {
  await world.service.put("red-apple.txt", "1", { path: "fruit/red-apple.txt" });
  await world.service.put("green-apple.txt", "2", { path: "basket/green-apple.txt" });
  const page = await world.page({}, "#files");
  const names = async () => (await rows(page).locator(".filename").allTextContents()).sort();
  await page.getByLabel("Name", { exact: true }).fill("APPLE");
  await expect.poll(names).toEqual(["green-apple.txt", "red-apple.txt"]);
  await page.getByLabel("Folder").fill("fruit/");
  await expect.poll(names).toEqual(["red-apple.txt"]);
  await page.reload();
  await expect.poll(names).toEqual(["red-apple.txt"]);
  await world.service.put("yellow-apple.txt", "3", { path: "basket/yellow-apple.txt" });
  await world.service.put("pale-apple.txt", "4", { path: "fruit/pale-apple.txt" });
  await expect.poll(names).toEqual(["pale-apple.txt", "red-apple.txt"]);
  await page.getByLabel("To", { exact: true }).fill("2020-01-01");
  await page.getByText("No file fits these filters.").waitFor();
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByLabel("Name", { exact: true }).fill("apple");
  await expect.poll(async () => (await names()).length).toBe(4);
  await page.getByLabel("Status").selectOption("failed");
  await page.getByText("No file fits these filters.").waitFor();
});

test("the address says what the list shows, whichever way one comes", async () => {
  await world.service.put("a-berry.txt", "1");
  await world.service.put("b-berry.txt", "2");
  const page = await world.page({}, "#files");
  const names = async () => (await rows(page).locator(".filename").allTextContents()).sort();
  await page.getByLabel("Name", { exact: true }).fill("a-berry");
  await expect.poll(names).toEqual(["a-berry.txt"]);
  await page.getByRole("link", { name: "Upload" }).click();
  await page.getByRole("link", { name: "Files" }).click();
  await expect.poll(() => new URL(page.url()).hash).toBe("#files?name=a-berry");
  await page.evaluate(() => (location.hash = "#files?name=b-berry"));
  await expect.poll(names).toEqual(["b-berry.txt"]);
  expect(await page.getByLabel("Name", { exact: true }).inputValue()).toBe("b-berry");
});

test("on a phone the filters are folded, unless they are in use", async () => {
  await world.service.put("folded-1.txt", "1");
  await world.service.put("folded-2.txt", "2");
  const page = await world.page({ viewport: { width: 390, height: 780 } }, "#files");
  const name = page.getByLabel("Name", { exact: true });
  const row = (file: string) => rows(page).filter({ hasText: file });
  await row("folded-2.txt").waitFor();
  expect(await name.isVisible()).toBe(false);
  await page.getByText("Filter", { exact: true }).click();
  await name.fill("folded-1");
  await row("folded-2.txt").waitFor({ state: "detached" });
  await row("folded-1.txt").waitFor();
  await page.reload();
  await name.waitFor();
});

test("what is still being uploaded is not deleted by mistake", async () => {
  const begun = await fetch(`${world.service.url}/api/uploads`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ filename: "unfinished.txt", size: 3 }),
  });
  const { id } = (await begun.json()) as { id: string };
  const page = await world.page({}, "#files?name=unfinished");
  await rows(page).first().click();
  await page.getByRole("dialog").getByText("uploading").waitFor();
  expect(await page.getByRole("button", { name: "Delete" }).count()).toBe(0);
  expect(await page.getByRole("heading", { name: "What is stored" }).count()).toBe(0);
  await page.keyboard.press("Escape");
  await page.locator("#files .row:focus").waitFor();
  await page.keyboard.press("Delete");
  await page.getByText("unfinished.txt is still being uploaded").waitFor();
  await fetch(`${world.service.url}/api/uploads/${id}`, { method: "DELETE" });
});

test("a name is text, whatever it says", async () => {
  const name = "<img src=x onerror=document.title='owned'>";
  await world.service.put(name, "x", { path: `<b>bold<b>/${name}` });
  const page = await world.page({}, "#files");
  await rows(page).filter({ hasText: name }).click();
  await page.getByRole("dialog").getByRole("heading", { name }).waitFor();
  expect(await page.locator("img").count()).toBe(0);
  expect(await page.title()).toBe("Files · Haulier");
});

test("the list can be used by keyboard alone", async () => {
  for (const name of ["key-1.txt", "key-2.txt", "key-3.txt"]) await world.service.put(name, name);
  const page = await world.page({}, "#files?name=key-");
  await rows(page).nth(2).waitFor();
  await page.getByRole("grid").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").getByRole("heading", { name: "key-2.txt" }).waitFor();
  await page.keyboard.press("Escape");
  // Where the keyboard was before: only a list that has it can be moved in.
  await page.locator("#files .row:focus").waitFor();
  await page.keyboard.press("End");
  await page.keyboard.press("Delete");
  await rows(page).filter({ hasText: "key-1.txt" }).waitFor({ state: "detached" });
  expect(await rows(page).count()).toBe(2);
});

test("a link opens the file for whoever has it", async () => {
  await world.service.put("shared.txt", "for everybody");
  const page = await world.page({}, "#files");
  await rows(page).filter({ hasText: "shared.txt" }).click();
  await page.getByLabel("Anybody may open it for").selectOption("an hour");
  await page.getByRole("button", { name: "Make a link" }).click();
  const link = await page.getByLabel("Link", { exact: true }).inputValue();
  expect(await (await fetch(link)).text()).toBe("for everybody");
  await page.getByRole("button", { name: "Copy" }).click();
  await page.getByText("Copied.").waitFor();
});

test("a file that no longer fits the filters leaves the list", async () => {
  const begun = await fetch(`${world.service.url}/api/uploads`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ filename: "slow.txt", size: 3 }),
  });
  const { id } = (await begun.json()) as { id: string };
  const page = await world.page({}, "#files?status=uploading&name=slow.txt");
  const row = rows(page).filter({ hasText: "slow.txt" });
  await row.waitFor();
  await fetch(`${world.service.url}/api/uploads/${id}/chunks/0`, { method: "PUT", body: "abc" });
  await fetch(`${world.service.url}/api/uploads/${id}/finish`, { method: "POST" });
  await row.waitFor({ state: "detached" });
  await page.getByText("No file fits these filters.").waitFor();
});

test("what is open of a file closes when the file is deleted elsewhere", async () => {
  const record = await world.service.put("open.txt", "open");
  const page = await world.page({}, "#files");
  await rows(page).filter({ hasText: "open.txt" }).click();
  await page.getByRole("dialog").waitFor();
  await fetch(`${world.service.url}/api/records/${record.id}`, { method: "DELETE" });
  await page.getByText("open.txt was deleted.").waitFor();
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("what one sent is exported as CSV and JSON, with the filters in force", async () => {
  await world.service.put("pear-of-curl.txt", "1", { path: "trees/pear-of-curl.txt" });
  const page = await world.page();
  world.file("trees/pear.txt", "pear");
  world.file("trees/plum.txt", "plum");
  const folder = page.locator("input.uppy-Dashboard-input[webkitdirectory]").first();
  await folder.setInputFiles(`${world.service.folder}/trees`);
  await page.getByRole("button", { name: "Add more files" }).click();
  await chooser(page).setInputFiles(world.file("pear-in-no-folder.txt", "pear"));
  await page.getByText("3 of 3 files sent").waitFor();
  await page.getByRole("link", { name: "Files" }).click();
  const exported = async (format: string): Promise<string> => {
    const download = page.waitForEvent("download");
    await page.getByRole("link", { name: format }).click();
    const done = await download;
    expect(done.suggestedFilename()).toBe(`history.${format.toLowerCase()}`);
    return readFileSync(await done.path(), "utf8");
  };
  const names = (csv: string): string[] =>
    csv
      .trim()
      .split("\r\n")
      .slice(1)
      .map((line) => line.split(",")[1] ?? "")
      .sort();
  expect(names(await exported("CSV"))).toEqual(["pear-in-no-folder.txt", "pear.txt", "plum.txt"]);
  await page.getByLabel("Name", { exact: true }).fill("PEAR");
  await page.getByLabel("Folder").fill("trees/");
  expect(names(await exported("CSV"))).toEqual(["pear.txt"]);
  await page.getByLabel("Status").selectOption("failed");
  expect(JSON.parse(await exported("JSON"))).toEqual([]);
  await page.getByLabel("Status").selectOption("completed");
  await page.getByLabel("From", { exact: true }).fill("2026-01-01");
  const [row, ...more] = JSON.parse(await exported("JSON")) as { original_filename: string }[];
  expect([row?.original_filename, more]).toEqual(["pear.txt", []]);
});
