#include "proxy/height.h"

#include <stdbool.h>
#include <string.h>

#include "proxy/tag.h"

enum {
	HEIGHT_MAX = 1200,
	HEIGHT_USUAL = 400,
	HEIGHT_BORDER = 24, /* margins of the body */
	HEIGHT_NAMED = 30,  /* smaller ones are icons */
	HEIGHT_ROW = 24,
	HEIGHT_AUDIO = 64,
	HEIGHT_VIDEO = 300,
	HEIGHT_STEP = 36,    /* of a diagram of scikit-learn */
	HEIGHT_DIAGRAM = 60, /* around its steps */
	PADDING_MAX = 20,
	HEIGHT_AXES = 60, /* what vega draws around a figure's height */
	WIDTH_LETTERS = 110,
};

static size_t number_at(const char *text, size_t size)
{
	size_t value = 0;

	for (size_t i = 0; i < size && text[i] >= '0' && text[i] <= '9' && value < 100000; i++)
		value = value * 10 + (size_t)(text[i] - '0');
	return value;
}

/* N of height:Npx, height="N", "height":N at `text`, where "height" begins. */
static size_t height_at(const char *text, size_t size)
{
	size_t i = strlen("height"), gap;

	for (gap = i; gap < size && gap < i + 4 && text[gap] && strchr("\"': =", text[gap]); gap++)
		;
	return gap > i && gap < size ? number_at(text + gap, size - gap) : 0;
}

struct extent {
	size_t height;	/* the largest that is named, in pixels */
	size_t data;	/* the last one in a script */
	size_t rows;	/* of tables */
	size_t padding; /* above and below what is in a row */
	size_t lines;	/* that text begins on its own */
	size_t letters; /* of text */
	size_t folded;	/* depth in what shows its summary alone */
	size_t labels;
	bool graphic;	/* something whose size nobody knows */
	bool video;	/* it takes the frame's height */
	bool axes;	/* vega draws it */
	bool steps;	/* a diagram of scikit-learn: one label for each step */
	bool line;	/* the next letter begins one */
	bool tag, code; /* where it is now */
};

static void look_at_tag(struct extent *extent, const char *text, size_t size)
{
	static const char *const lines[] = {"p",  "div", "li", "h1",  "h2", "h3",
					    "h4", "h5",	 "h6", "pre", "dt", "summary"};
	static const char *const graphics[] = {"img", "svg", "canvas", "script"};

	if (tag_is(text, size, "/details") && extent->folded > 0)
		extent->folded--;
	if (tag_is(text, size, "tr"))
		extent->rows += extent->folded == 0;
	if (tag_is(text, size, "br") || tag_is(text, size, "hr"))
		extent->lines += extent->folded == 0;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		extent->line |= tag_is(text, size, lines[i]);
	for (size_t i = 0; i < sizeof(graphics) / sizeof(graphics[0]); i++)
		extent->graphic |= tag_is(text, size, graphics[i]);
	if (tag_is(text, size, "audio") && extent->height < HEIGHT_AUDIO)
		extent->height = HEIGHT_AUDIO;
	if (tag_is(text, size, "video") && !tag_has(text, size, "height="))
		extent->video = true;
	extent->labels += tag_is(text, size, "label");
	if (tag_is(text, size, "details"))
		extent->folded++;
}

/* Text, or what is in a tag or a script. */
static void look_at(struct extent *extent, const char *text, size_t size)
{
	if (*text == '<') {
		look_at_tag(extent, text, size);
		extent->code = tag_is(text, size, "script") || tag_is(text, size, "style") ||
			       (extent->code && !tag_is(text, size, "/script") &&
				!tag_is(text, size, "/style"));
		extent->tag = true;
	} else if (*text == '>') {
		extent->tag = false;
	} else if (!extent->tag && !extent->code && extent->folded == 0) {
		extent->letters++;
		extent->lines += extent->line && !strchr(" \t\r\n", *text);
		extent->line &= strchr(" \t\r\n", *text) != NULL;
	}
}

/* The largest padding-top: Npx. */
static void look_at_padding(struct extent *extent, const char *text, size_t size)
{
	size_t i = strlen("padding-top:"), padding;

	if (*text != 'p' || !tag_word(text, size, "padding-top:"))
		return;
	i += i < size && text[i] == ' ';
	padding = number_at(text + i, size - i);
	if (padding > extent->padding && padding <= PADDING_MAX)
		extent->padding = padding;
}

/* Words that say who draws it. */
static void look_at_word(struct extent *extent, const char *text, size_t size)
{
	if (*text == 'v' && extent->code && tag_word(text, size, "vegaEmbed"))
		extent->axes = true;
	if (*text == 's' && extent->tag && tag_word(text, size, "sk-top-container"))
		extent->steps = true;
}

/* Of a script the data count, which come after the library. */
static void look_at_height(struct extent *extent, const char *body, size_t size, size_t i)
{
	const bool whole = i == 0 || body[i - 1] != '-';
	size_t named;

	if ((body[i] != 'h' && body[i] != 'H') || !whole || !tag_word(body + i, size - i, "height"))
		return;
	named = height_at(body + i, size - i);
	if (named >= HEIGHT_MAX * 4)
		return;
	if (!extent->code)
		extent->height = named > extent->height ? named : extent->height;
	else if (i > 0 && body[i - 1] == '"' && named >= HEIGHT_NAMED)
		extent->data = named;
}

static size_t content_height(const struct extent *extent)
{
	size_t named = extent->height, height = extent->rows * (HEIGHT_ROW + 2 * extent->padding);

	if (extent->steps)
		return extent->labels * HEIGHT_STEP + HEIGHT_DIAGRAM;
	if (named < HEIGHT_NAMED && extent->data > 0)
		named = extent->data + (extent->axes ? HEIGHT_AXES : 0);
	if (named < HEIGHT_NAMED && (extent->graphic || extent->video))
		named = extent->graphic ? HEIGHT_USUAL : HEIGHT_VIDEO;
	if (extent->rows == 0 && !extent->graphic)
		height = (extent->lines + extent->letters / WIDTH_LETTERS + 1) * HEIGHT_ROW;
	return named > height ? named : height;
}

unsigned height_estimate(const char *body, size_t size)
{
	struct extent extent = {0};
	size_t height;

	for (size_t i = 0; i < size; i++) {
		look_at(&extent, body + i, size - i);
		look_at_padding(&extent, body + i, size - i);
		look_at_word(&extent, body + i, size - i);
		look_at_height(&extent, body, size, i);
	}
	height = content_height(&extent) + HEIGHT_BORDER;
	if (height < HEIGHT_MIN)
		return HEIGHT_MIN;
	return height > HEIGHT_MAX ? HEIGHT_MAX : (unsigned)height;
}
