"""What users of OpenAI's and Anthropic's own Python packages see of a coordinator. sdks.rs starts it:

    python sdks.py URL KEY MODEL EMBEDDER CALLER

MODEL chats and does not embed; EMBEDDER embeds; CALLER calls tools, and its server has no Messages API. No retries: what is seen is the first answer.
"""

import json
import os
import sys
import unittest

import anthropic
import openai

URL, KEY, MODEL, EMBEDDER, CALLER = sys.argv[1:6]
LIMIT = 16
ASK = [{"role": "user", "content": "Say hello."}]
TOO_LONG = [{"role": "user", "content": "hello " * 5000}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
FUNCTION = {"name": "weather", "description": "Weather of a city", "parameters": PARAMETERS}
# A model of this size calls a tool where it has seen how: the next one is a call for Paris.
CITIES = ("London", "Rome", "Oslo", "Paris")


def openai_client(key=KEY):
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0, timeout=60)


def anthropic_client(key=KEY):
    return anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0, timeout=60)


class OpenAi(unittest.TestCase):
    def setUp(self):
        self.client = openai_client()
        self.addCleanup(self.client.close)

    def chat(self, **more):
        return self.client.chat.completions.create(**({"model": MODEL, "messages": ASK, "max_tokens": LIMIT} | more))

    def test_models(self):
        self.assertEqual({model.id for model in self.client.models.list()}, {MODEL, EMBEDDER, CALLER})

    def test_a_chat_is_the_same_streamed_and_whole(self):
        whole = self.chat()
        self.assertTrue(whole.choices[0].message.content)
        self.assertIn(whole.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)

        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        usages = [chunk.usage for chunk in chunks if chunk.usage]
        self.assertEqual(len(usages), 1)
        self.assertEqual(usages[0].prompt_tokens, whole.usage.prompt_tokens)
        self.assertEqual(usages[0].completion_tokens, whole.usage.completion_tokens)

    def test_a_stream_has_no_usage_that_was_not_asked_for(self):
        self.assertTrue(all(chunk.usage is None for chunk in self.chat(stream=True)))

    def test_a_tool_is_called_the_same_streamed_and_whole(self):
        messages = []
        for number, city in enumerate(CITIES):
            function = {"name": "weather", "arguments": json.dumps({"city": city})}
            call = {"id": f"call{number}", "type": "function", "function": function}
            messages += [
                {"role": "user", "content": f"What is the weather in {city}?"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
            ]
        ask = {"model": CALLER, "messages": messages[:-1], "max_tokens": 64}
        ask["tools"] = [{"type": "function", "function": FUNCTION}]
        whole = self.chat(**ask).choices[0]
        self.assertEqual(whole.finish_reason, "tool_calls")
        with self.client.chat.completions.stream(**ask) as stream:
            streamed = stream.get_final_completion().choices[0]
        self.assertEqual(streamed.finish_reason, "tool_calls")
        for choice in (whole, streamed):
            (call,) = choice.message.tool_calls
            self.assertTrue(call.id)
            self.assertEqual(call.function.name, "weather")
            self.assertEqual(json.loads(call.function.arguments), {"city": "Paris"})

    def test_a_completion_is_the_same_streamed_and_whole(self):
        ask = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": LIMIT}
        whole = self.client.completions.create(**ask)
        self.assertTrue(whole.choices[0].text)
        self.assertGreater(whole.usage.completion_tokens, 0)
        chunks = list(self.client.completions.create(**ask, stream=True))
        self.assertEqual("".join(c.text for chunk in chunks for c in chunk.choices), whole.choices[0].text)

    def test_a_response_is_the_same_streamed_and_whole(self):
        ask = {"model": MODEL, "input": "Say hello.", "max_output_tokens": LIMIT}
        whole = self.client.responses.create(**ask)
        self.assertTrue(whole.output_text)
        self.assertGreater(whole.usage.output_tokens, 0)
        events = list(self.client.responses.create(**ask, stream=True))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertEqual(text, whole.output_text)
        self.assertEqual(events[-1].type, "response.completed")

    def test_embeddings_are_vectors_of_one_length(self):
        answer = self.client.embeddings.create(model=EMBEDDER, input=["a cat", "a lighthouse"])
        self.assertEqual([item.index for item in answer.data], [0, 1])
        lengths = {len(item.embedding) for item in answer.data}
        self.assertEqual(len(lengths), 1)
        self.assertGreater(lengths.pop(), 1)
        self.assertNotEqual(answer.data[0].embedding, answer.data[1].embedding)

    def test_embeddings_of_a_model_that_has_none_are_an_error_of_the_api(self):
        with self.assertRaises(openai.APIStatusError) as caught:
            self.client.embeddings.create(model=MODEL, input="a cat")
        self.assertIn(caught.exception.status_code, (400, 404, 501, 502))

    def test_a_bad_request_is_a_bad_request(self):
        for stream in (False, True):
            with self.assertRaises(openai.BadRequestError):
                self.chat(messages="hello", stream=stream)

    def test_a_prompt_that_is_too_long_is_a_bad_request(self):
        for stream in (False, True):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.chat(messages=TOO_LONG, stream=stream)
            self.assertEqual(caught.exception.type, "exceed_context_size_error")

    def test_an_unknown_model_is_not_found(self):
        for stream in (False, True):
            with self.assertRaises(openai.NotFoundError) as caught:
                self.chat(model="nobody-has-this", stream=stream)
            self.assertEqual(caught.exception.code, "model_not_found")

    def test_a_wrong_key_is_told_from_other_errors(self):
        with openai_client("wrong") as client:
            with self.assertRaises(openai.AuthenticationError):
                client.chat.completions.create(model=MODEL, messages=ASK)
            with self.assertRaises(openai.AuthenticationError):
                client.models.list()


class Messages:
    """What holds of `model`, whoever speaks the Messages API: its server, or the agent for it."""

    def setUp(self):
        self.client = anthropic_client()
        self.addCleanup(self.client.close)

    def ask(self, **more):
        return {"model": self.model, "messages": ASK, "max_tokens": LIMIT} | more

    def test_a_message_is_the_same_streamed_and_whole(self):
        whole = self.client.messages.create(**self.ask())
        self.assertTrue(whole.content[0].text)
        self.assertIn(whole.stop_reason, ("end_turn", "max_tokens"))
        with self.client.messages.stream(**self.ask()) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        self.assertEqual(text, whole.content[0].text)
        self.assertEqual(final.content[0].text, text)
        self.assertEqual(final.stop_reason, whole.stop_reason)
        self.assertEqual(final.usage.output_tokens, whole.usage.output_tokens)

    def test_a_bad_request_is_a_bad_request(self):
        with self.assertRaises(anthropic.BadRequestError):
            self.client.messages.create(**self.ask(extra_body={"temperature": "hot"}))
        with self.assertRaises(anthropic.BadRequestError):
            with self.client.messages.stream(**self.ask(extra_body={"temperature": "hot"})) as stream:
                stream.get_final_message()

    def test_a_prompt_that_is_too_long_is_a_bad_request(self):
        with self.assertRaises(anthropic.BadRequestError):
            self.client.messages.create(**self.ask(messages=TOO_LONG))
        with self.assertRaises(anthropic.BadRequestError):
            with self.client.messages.stream(**self.ask(messages=TOO_LONG)) as stream:
                stream.get_final_message()

    def test_an_unknown_model_is_not_found(self):
        with self.assertRaises(anthropic.NotFoundError):
            self.client.messages.create(**self.ask(model="nobody-has-this"))

    def test_a_wrong_key_is_told_from_other_errors(self):
        with anthropic_client("wrong") as client:
            with self.assertRaises(anthropic.AuthenticationError):
                client.messages.create(**self.ask())


class NativeMessages(Messages, unittest.TestCase):
    model = MODEL


class TranslatedMessages(Messages, unittest.TestCase):
    model = CALLER

    def test_a_tool_is_called_the_same_streamed_and_whole_and_its_result_is_taken(self):
        messages = []
        for number, city in enumerate(CITIES):
            call = {"type": "tool_use", "id": f"call{number}", "name": "weather", "input": {"city": city}}
            messages += [
                {"role": "user", "content": f"What is the weather in {city}?"},
                {"role": "assistant", "content": [call]},
            ]
        ask = self.ask(messages=messages[:-1], max_tokens=64)
        ask["tools"] = [{"name": "weather", "description": "Weather of a city", "input_schema": PARAMETERS}]
        whole = self.client.messages.create(**ask)
        with self.client.messages.stream(**ask) as stream:
            streamed = stream.get_final_message()
        for message in (whole, streamed):
            self.assertEqual(message.stop_reason, "tool_use")
            (block,) = message.content
            self.assertEqual((block.type, block.name, block.input), ("tool_use", "weather", {"city": "Paris"}))
            self.assertTrue(block.id)

        result = {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "Rain."}]}
        answer = {"role": "assistant", "content": streamed.content}
        ask["messages"] = [messages[-2], answer, {"role": "user", "content": [result]}]
        self.assertTrue(self.client.messages.create(**ask).content)

    def test_a_string_is_no_list_of_messages(self):
        with self.assertRaises(anthropic.BadRequestError) as caught:
            self.client.messages.create(**self.ask(messages="hello"))
        self.assertEqual(caught.exception.body["error"]["type"], "invalid_request_error")


if __name__ == "__main__":
    # Neither a proxy nor a key of whoever runs this.
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(("OPENAI_", "ANTHROPIC_")):
            del os.environ[name]
    unittest.main(argv=sys.argv[:1], verbosity=2)
