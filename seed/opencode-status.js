// Tells looop how opencode fares. opencode loads it as a plugin.

import { spawn } from "node:child_process";

export const Looop = async ({ client }) => {
  const tell = (state, event) => new Promise((done) => {
    const hook = spawn("looop", ["__hook-status", state], { stdio: ["pipe", "ignore", "ignore"] });
    // What is not heard is not told; opencode itself goes on.
    hook.on("error", done);
    hook.on("close", done);
    hook.stdin.on("error", () => {});
    hook.stdin.end(JSON.stringify(event));
  });
  // One after the other: of two that are under way the later could be heard first.
  let told = Promise.resolve();
  const say = (state, event = {}) => {
    told = told.then(() => tell(state, event));
  };
  let failed;
  const lastWords = async (sessionID) => {
    const { data } = await client.session.messages({ path: { id: sessionID } });
    const parts = data?.at(-1)?.parts ?? [];
    return parts.map((part) => (part.type === "text" ? part.text : "")).join(" ").trim();
  };
  return {
    event: async ({ event: { type, properties } }) => {
      if (type === "permission.asked") {
        const { permission, patterns } = properties;
        say("blocked", { message: `${permission}: ${(patterns ?? []).join(" ")}` });
      } else if (type === "permission.replied") {
        say("working");
      } else if (type === "session.status" && properties.status.type === "busy") {
        failed = undefined;
        say("working");
      } else if (type === "session.error") {
        failed = properties.error?.data?.message ?? properties.error?.name ?? "an error";
      } else if (type === "session.idle") {
        if (failed) say("error", { message: failed });
        else say("done", { message: await lastWords(properties.sessionID).catch(() => "") });
      }
    },
  };
};
